//! The checks that a command has to pass, one by one: what a dry run shows of them is what apply itself looked at.
//!
//! A handler states each of its rules with [`View::check`], which decides nothing by itself: it hands the rejection back
//! where the check failed, and notes the check where somebody collects them. Committing collects nothing.

use std::{cell::RefCell, fmt::Display};

use crate::{Answer, Rejection, View, record::Approvers};

/// A rule that commands are held to.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// What has to be so, in words: `the peer exists`.
    pub name: &'static str,
    /// What a refusal by it is called: `not_found`.
    pub code: &'static str,
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The rule.
    pub rule: &'static Rule,
    /// What was found, with its unit.
    pub measured: String,
    /// What it was held against, with its unit.
    pub limit: String,
    /// Whether it is so.
    pub passed: bool,
}

/// Checks as they are made, for who asked to see them.
#[derive(Debug, Default)]
pub struct Checks(RefCell<Vec<Check>>);

/// What a command would come to, and why.
#[derive(Debug)]
pub struct Preview {
    /// What would come of it.
    pub answer: Answer,
    /// The checks that were made, in order; only the last may have failed.
    pub checks: Vec<Check>,
    /// Rules of the command that were not looked at: one before them failed, or nothing would change.
    pub not_made: Vec<&'static Rule>,
    /// Who would have to agree before it takes effect.
    pub approvers: Approvers,
}

impl Checks {
    pub(crate) fn into_inner(self) -> Vec<Check> {
        self.0.into_inner()
    }
}

impl View<'_> {
    /// States one rule: what was `measured` against which `limit`, whether it `passed`, and how it refuses.
    ///
    /// # Errors
    /// The rejection, where it did not pass.
    pub fn check(
        &self,
        rule: &'static Rule,
        measured: impl Display,
        limit: impl Display,
        passed: bool,
        rejection: impl FnOnce() -> Rejection,
    ) -> Result<(), Rejection> {
        if let Some(Checks(made)) = self.checks {
            made.borrow_mut().push(Check {
                rule,
                measured: measured.to_string(),
                limit: limit.to_string(),
                passed,
            });
        }
        if passed { Ok(()) } else { Err(rejection()) }
    }

    /// The same for a rule whose own code says what is wrong, if anything.
    ///
    /// # Errors
    /// What `checked` says.
    pub fn check_form(&self, rule: &'static Rule, checked: Result<(), Rejection>) -> Result<(), Rejection> {
        let (measured, limit) = checked.as_ref().err().map(Rejection::measure).unwrap_or_default();
        let passed = checked.is_ok();
        self.check(rule, measured, limit, passed, || {
            checked.err().unwrap_or(Rejection::MeshNotInitialized)
        })
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $id:ident: $code:literal, $name:literal;)*) => {
        $($(#[$doc])* pub const $id: &Rule = &Rule { name: $name, code: $code };)*

        /// Every rule, for documentation tests.
        pub const RULES: &[&Rule] = &[$($id),*];
    };
}

rules! {
    /// `Handler::level`.
    FEATURE_LEVEL_REACHED: "feature_level_too_low", "the mesh is at the feature level that it takes";
    /// `--if-revision`.
    REVISION_IS: "revision_mismatch", "the mesh is at the revision that was named";
    /// `If-Match`.
    ETAG_IS: "etag_mismatch", "the record is as it was seen";
    /// `If-None-Match: *`.
    RECORD_ABSENT: "already_exists", "there is no such record yet";
    /// The request's fields.
    FORM: "invalid_argument", "every field has its form";
    /// Verbs of a peer.
    PEER_EXISTS: "not_found", "the peer exists";
    /// Cordon, uncordon, deregister.
    PEER_NOT_DRAINING: "peer_draining", "the peer is not being drained";
    /// Deregister.
    PEER_OWNS_NOTHING: "peer_owns_shards", "the peer owns nothing";
    /// Register.
    PEERS_BELOW_LIMIT: "resource_exhausted", "there is room for one more peer";
    /// Drain.
    OPERATIONS_BELOW_LIMIT: "resource_exhausted", "there is room for one more running operation";
    /// Drain.
    ACTIVE_PEERS_LEFT: "active_peers_low", "enough peers of the cluster stay active";
    /// Drain of several.
    SOMETHING_SELECTED: "nothing_selected", "the selector selects peers that can be drained";
    /// Drain of several.
    SELECTION_BELOW_LIMIT: "selection_too_large", "not too many peers are selected";
    /// Drain of several.
    SELECTION_AS_EXPECTED: "selection_changed", "exactly the expected peers are selected";
    /// Verbs of an operation.
    OPERATION_EXISTS: "not_found", "the operation exists";
    /// Cancel.
    OPERATION_RUNS: "operation_finished", "the operation runs";
    /// Verbs of a cluster.
    CLUSTER_EXISTS: "not_found", "the cluster exists";
    /// Apply of a cluster.
    CLUSTERS_BELOW_LIMIT: "resource_exhausted", "there is room for one more cluster";
    /// Verbs of a cluster.
    ACTIVE_CLUSTER_LEFT: "last_active_cluster", "another cluster is active";
    /// Verbs of a cluster.
    CLUSTER_STEP_ALLOWED: "cluster_transition", "the cluster's state leads to the one asked for";
    /// Promote.
    CLUSTER_FOLLOWS: "replication_not_configured", "the cluster follows the active one";
    /// Config.
    SETTINGS_KNOWN: "invalid_argument", "every setting is known and within its range";
    /// Compact.
    REVISION_IS_THERE: "invalid_argument", "the revision is there";
    /// Compact.
    HISTORY_FREE: "history_in_use", "no retry may have to be answered from what goes";
    /// Begin of a browser's session.
    SESSIONS_BELOW_LIMIT: "resource_exhausted", "there is room for one more session";
    /// Deciding a request for approval.
    APPROVAL_EXISTS: "not_found", "there is such a request";
    /// Deciding a request for approval.
    APPROVAL_UNDECIDED: "approval_finished", "nobody has decided it yet";
    /// Deciding a request for approval.
    APPROVAL_IN_TIME: "approval_expired", "it has not run out";
    /// Deciding a request for approval.
    APPROVAL_FRESH: "approval_stale", "it would do what it was asked to";
    /// Approve.
    APPROVER_IS_ANOTHER: "approval_own", "another person asked for it";
    /// Deciding a request for approval.
    APPROVER_MAY: "scope_missing", "the caller holds the scope that deciding it takes";
    /// Approve.
    APPROVER_COUNTS: "approval_given", "the caller has not agreed to it yet";
    /// Drain.
    SHARDS_HAVE_A_PLACE: "no_eligible_peer", "another peer can take its shards";
    /// Move. Shown where it is not so; refuses nothing by itself.
    SILENT_TARGET_NOTED: "target_unfit", "a peer that was never heard serves nothing of its own accord";
    /// Drain. Shown where there are such shards; refuses nothing by itself.
    HELD_SHARDS_NOTED: "peer_owns_shards", "shards that are paused or disabled are waited for";
    /// Verbs of a namespace.
    NAMESPACE_EXISTS: "not_found", "the namespace exists";
    /// Create.
    NAMESPACES_BELOW_LIMIT: "resource_exhausted", "there is room for one more namespace";
    /// Create.
    SHARDS_BELOW_LIMIT: "resource_exhausted", "there is room for its shards";
    /// Delete.
    NAMESPACE_AT_REST: "namespace_busy", "no operation works on the namespace";
    /// Reshape.
    SHARD_COUNT_KEPT: "shard_count_fixed", "it keeps its number of shards";
    /// Reshape.
    MOVES_BELOW_CEILING: "moves_too_many", "no more shards move, beyond what has to, than may";
    /// Delete.
    NAMESPACE_UNUSED: "namespace_in_use", "every shard is disabled";
    /// Verbs of a shard.
    SHARD_EXISTS: "not_found", "the shard exists";
    /// Pause, resume, disable, enable.
    SHARD_STEP_ALLOWED: "shard_transition", "the shard's status leads to the one asked for";
    /// Move.
    SHARD_MOVABLE: "shard_transition", "the shard may be moved";
    /// Move.
    TARGET_IS_ANOTHER: "shard_there", "somebody else owns the shard";
    /// Move.
    TARGET_TAKES_SHARDS: "target_unfit", "the peer takes shards of the namespace";
    /// Move.
    MOVES_BELOW_LIMIT: "resource_exhausted", "there is room for one more move in the mesh";
    /// Move.
    MOVES_OF_NAMESPACE_BELOW_LIMIT: "resource_exhausted", "there is room for one more move of the namespace";
    /// Move.
    MOVES_OF_PEER_BELOW_LIMIT: "resource_exhausted", "there is room for one more move of the peer";
    /// Steps of a move.
    MOVE_AT_STEP: "move_over", "the move is at that step";
    /// Acknowledging.
    WAITED_FOR: "not_waited_for", "the step waits for this peer";
    /// Acknowledging.
    TOKEN_IS_CURRENT: "stale_token", "the token is the shard's own";
    /// Finalize.
    FEATURE_LEVEL_KNOWN: "feature_level_unknown", "the programs know the feature level";
}
