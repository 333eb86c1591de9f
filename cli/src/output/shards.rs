//! Shards, and what became of them.

use proto::v1::{FencingToken, Shard, ShardChange, list_shard_history_response::Entry, shard};

use super::{
    Look, Show, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};
use crate::mutation::Subject;

/// `orders/12`
pub fn id(shard: &Shard) -> String {
    format!("{}/{}", shard.namespace, shard.shard)
}

/// The status as tables show it.
pub fn status(status: shard::Status) -> Text {
    let text = Text::from(word(status.as_str_name()));
    match status {
        shard::Status::Active => text.styled(style::GREEN),
        shard::Status::Moving => text.styled(style::CYAN),
        shard::Status::Paused => text.styled(style::YELLOW),
        shard::Status::Disabled => text.styled(style::RED),
        shard::Status::Unspecified => text,
    }
}

/// `1.4`: the mesh's epoch, then the shard's.
pub fn token(token: Option<&FencingToken>) -> String {
    token.map_or_else(String::new, |token| {
        format!("{}.{}", token.mesh_epoch, token.shard_epoch)
    })
}

/// `to p2, preparing`: where a shard goes, and how far it is.
fn moving(shard: &Shard) -> String {
    shard.moving.as_ref().map_or_else(String::new, |moving| {
        format!("to {}, {}", moving.to, word(moving.step().as_str_name()))
    })
}

/// What one change made of a shard, on one line.
pub fn difference(before: &Shard, after: &Shard) -> String {
    let mut parts = Vec::new();
    let nobody = |peer: &str| {
        if peer.is_empty() {
            "nobody".to_owned()
        } else {
            peer.to_owned()
        }
    };
    if before.status != after.status {
        let word = |shard: &Shard| word(shard.status().as_str_name());
        parts.push(format!("{} -> {}", word(before), word(after)));
    }
    if before.owner != after.owner {
        parts.push(format!("owner {} -> {}", nobody(&before.owner), nobody(&after.owner)));
    }
    if before.moving != after.moving && after.moving.is_some() {
        parts.push(moving(after));
    }
    if before.replicas != after.replicas {
        let listed = |shard: &Shard| nobody(&shard.replicas.join(","));
        parts.push(format!("replicas {} -> {}", listed(before), listed(after)));
    }
    if before.token != after.token {
        let token = |shard: &Shard| token(shard.token.as_ref());
        parts.push(format!("token {} -> {}", token(before), token(after)));
    }
    parts.join(", ")
}

/// What there is to say of a shard that came, or was there when a watch began.
pub fn standing(shard: &Shard) -> String {
    let word = word(shard.status().as_str_name());
    let owner = match shard.owner.as_str() {
        "" => "no owner".to_owned(),
        owner => format!("owner {owner}"),
    };
    match moving(shard).as_str() {
        "" => format!("{word}, {owner}"),
        moving => format!("{word}, {owner}, {moving}"),
    }
}

impl Subject for Shard {
    fn standing(&self) -> String {
        word(self.status().as_str_name())
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn changed_revision(&self) -> u64 {
        self.changed_revision
    }
}

impl Show for Shard {
    fn name(&self) -> String {
        format!("shard/{}", id(self))
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["shard", "owner", "status", "token", "replicas", "moving", "changed"];
        if wide {
            header.extend(["cause", "hand-off", "operation", "ticket", "version", "revision"]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let changed = self.changed_at.as_ref();
        let mut row = vec![
            Text::from(id(self)),
            owner(&self.owner),
            status(self.status()),
            Text::from(token(self.token.as_ref())),
            Text::new(&self.replicas.join(",")),
            Text::new(&moving(self)),
            if look.wide {
                rfc3339(changed).into()
            } else {
                relative(changed, look.now).into()
            },
        ];
        if look.wide {
            let moving = self.moving.as_ref();
            let of_move = |text: &dyn Fn(&shard::Move) -> String| moving.map_or_else(String::new, text);
            row.extend([
                Text::new(&of_move(&|moving| word(moving.cause().as_str_name()))),
                Text::new(&of_move(&|moving| word(moving.hand_off().as_str_name()))),
                Text::new(&of_move(&|moving| moving.operation.clone())),
                Text::new(&self.ticket),
                self.version.into(),
                self.changed_revision.into(),
            ]);
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        let time = |time: &Option<prost_types::Timestamp>| match look.wide {
            true => rfc3339(time.as_ref()),
            false => relative(time.as_ref(), look.now),
        };
        let moving_of =
            |text: &dyn Fn(&shard::Move) -> String| Text::new(&self.moving.as_ref().map_or_else(String::new, text));
        vec![
            ("shard", Text::from(id(self))),
            ("status", status(self.status())),
            ("owner", owner(&self.owner)),
            ("replicas", Text::new(&self.replicas.join(", "))),
            ("token", Text::from(token(self.token.as_ref()))),
            ("moving", Text::new(&moving(self))),
            ("move began", moving_of(&|moving| format!("revision {}", moving.begun))),
            ("cause", moving_of(&|moving| word(moving.cause().as_str_name()))),
            ("asked by", moving_of(&|moving| moving.actor.clone())),
            ("operation", moving_of(&|moving| moving.operation.clone())),
            ("hand-off", moving_of(&|moving| word(moving.hand_off().as_str_name()))),
            ("ticket", Text::new(&self.ticket)),
            ("version", self.version.into()),
            ("etag", Text::new(&self.etag)),
            (
                "created",
                format!("{} (revision {})", time(&self.created_at), self.created_revision).into(),
            ),
            (
                "changed",
                format!("{} (revision {})", time(&self.changed_at), self.changed_revision).into(),
            ),
        ]
    }
}

/// Nobody is what an operator looks for.
fn owner(peer: &str) -> Text {
    match peer {
        "" => Text::from("nobody").styled(style::RED),
        peer => Text::new(peer),
    }
}

impl Show for Entry {
    fn name(&self) -> String {
        match &self.shard {
            Some(shard) => format!("shard/{}@{}", id(shard), self.revision),
            None => format!("revision/{}", self.revision),
        }
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec![
            "revision", "time", "action", "actor", "owner", "status", "token", "moving", "ticket", "reason",
        ];
        if wide {
            header.extend(["replicas", "operation"]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let at = self.at.as_ref();
        let shard = self.shard.as_ref();
        let of = |text: &dyn Fn(&Shard) -> Text| shard.map_or_else(|| Text::new(""), text);
        let mut row = vec![
            self.revision.into(),
            if look.wide {
                rfc3339(at).into()
            } else {
                relative(at, look.now).into()
            },
            Text::new(&self.action),
            match self.asked_by.as_str() {
                "" => Text::new(&self.actor),
                asked if asked == self.actor => Text::new(asked),
                asked => Text::new(&format!("{} for {asked}", self.actor)),
            },
            passed(&self.previous_owner, shard.map(|shard| shard.owner.as_str())),
            shard.map_or_else(
                || Text::from("removed").styled(style::RED),
                |shard| status(shard.status()),
            ),
            of(&|shard| Text::from(token(shard.token.as_ref()))),
            of(&|shard| Text::new(&moving(shard))),
            Text::new(&self.ticket),
            Text::new(&self.reason),
        ];
        if look.wide {
            row.push(of(&|shard| Text::new(&shard.replicas.join(","))));
            row.push(Text::new(&self.operation));
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        Self::header(true)
            .into_iter()
            .zip(self.row(Look { wide: true, ..look }))
            .collect()
    }
}

/// `p1 -> p2`, or only the owner where it is the one before.
fn passed(before: &str, after: Option<&str>) -> Text {
    match after {
        Some(after) if after == before => owner(after),
        Some(after) if before.is_empty() => owner(after),
        Some("") => Text::from(format!("{before} -> nobody")).styled(style::RED),
        Some(after) => Text::from(format!("{before} -> {after}")),
        None => Text::new(before),
    }
}

impl Show for ShardChange {
    fn name(&self) -> String {
        format!("shard/{}/{}", self.namespace, self.shard)
    }

    fn header(_: bool) -> Vec<&'static str> {
        vec!["shard", "from", "to", "epoch", "why"]
    }

    fn row(&self, _: Look) -> Vec<Text> {
        let side = |owner: &str, there: bool| match (owner, there) {
            (_, false) => Text::new(""),
            ("", true) => Text::from("nobody").styled(style::RED),
            (owner, true) => Text::new(owner),
        };
        let (was, is) = (self.epoch_before > 0, self.epoch_after > 0);
        let epoch = match (self.epoch_before, self.epoch_after) {
            (before, after) if before == after => after.to_string(),
            (before, after) => format!("{before} -> {after}"),
        };
        let why = match (was, is) {
            (false, _) => "new",
            (_, false) => "removed",
            (true, true) if self.unavoidable => "unavoidable",
            (true, true) if self.owner_before == self.owner_after => "token",
            (true, true) => "",
        };
        vec![
            Text::from(format!("{}/{}", self.namespace, self.shard)),
            side(&self.owner_before, was),
            side(&self.owner_after, is),
            Text::from(epoch),
            Text::new(why),
        ]
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        Self::header(true).into_iter().zip(self.row(look)).collect()
    }
}
