//! `peers.patch`

use serde::{Deserialize, Serialize};

use super::peer;
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, Rule, View, check,
    record::{Attributes, Kind, PeerSpec, check_attribute_key, check_attributes},
};

/// Sets and removes labels and metadata. Keys that are not named stay; removing a key that is not there is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchPeer {
    /// The peer.
    pub id: PeerId,
    /// Labels to set.
    pub labels: Attributes,
    /// Metadata to set.
    pub metadata: Attributes,
    /// Labels to remove.
    pub remove_labels: Vec<String>,
    /// Metadata to remove.
    pub remove_metadata: Vec<String>,
}

/// The same, and what else is said about it. What is not given stays as it is.
///
/// Shards stay where they are: who owns how many follows a new weight, region or zone when its namespaces are reshaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchPeerSpec {
    /// The peer, its labels and its metadata.
    pub attributes: PatchPeer,
    /// What it does; may become empty.
    pub role: Option<String>,
    /// May become empty.
    pub region: Option<String>,
    /// May become empty.
    pub zone: Option<String>,
    /// Where it listens, instead of what there was. Empty: that stays.
    pub endpoints: Vec<String>,
    /// Its share of work.
    pub weight: Option<u32>,
}

super::level_2!(PatchPeerSpec);

impl PatchPeer {
    /// The labels and metadata of this, as they become.
    fn patch(&self, spec: &mut PeerSpec) -> Result<(), Rejection> {
        let (set, remove) = (&self.labels, &self.remove_labels);
        patch("labels", &mut spec.labels, set, "removeLabels", remove)?;
        let (set, remove) = (&self.metadata, &self.remove_metadata);
        patch("metadata", &mut spec.metadata, set, "removeMetadata", remove)
    }
}

impl PatchPeerSpec {
    fn patch(&self, spec: &mut PeerSpec) -> Result<(), Rejection> {
        self.attributes.patch(spec)?;
        let words = [
            (&mut spec.role, &self.role),
            (&mut spec.region, &self.region),
            (&mut spec.zone, &self.zone),
        ];
        for (word, given) in words {
            if let Some(given) = given {
                word.clone_from(given);
            }
        }
        if !self.endpoints.is_empty() {
            spec.endpoints.clone_from(&self.endpoints);
        }
        spec.weight = self.weight.unwrap_or(spec.weight);
        spec.check()
    }
}

impl Handler for PatchPeer {
    fn action(&self) -> &'static str {
        "peers.patch"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[check::PEER_EXISTS, check::FORM]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        patched(view, &self.id, |spec| self.patch(spec))
    }
}

impl Handler for PatchPeerSpec {
    fn action(&self) -> &'static str {
        self.attributes.action()
    }

    fn target(&self) -> Option<(Kind, String)> {
        self.attributes.target()
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        self.attributes.rules()
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        patched(view, &self.attributes.id, |spec| self.patch(spec))
    }
}

/// The peer as a change of what was registered makes it.
fn patched(
    view: &View<'_>,
    id: &PeerId,
    change: impl FnOnce(&mut PeerSpec) -> Result<(), Rejection>,
) -> Result<Effects, Rejection> {
    let before = peer(view, id)?;
    let mut after = before.clone();
    view.check_form(check::FORM, change(&mut after.spec))?;
    if after == *before {
        return Ok(Effects::unchanged());
    }
    Ok(Effects::default()
        .put(Record::Peer(after.into()))
        .event(Event::PeerPatched(id.clone())))
}

fn patch(
    field: &'static str,
    attributes: &mut Attributes,
    set: &Attributes,
    remove_field: &'static str,
    remove: &[String],
) -> Result<(), Rejection> {
    for key in remove {
        check_attribute_key(remove_field, key)?;
        if set.contains_key(key) {
            return Err(Rejection::invalid(
                remove_field,
                format!("`{key}` is to be set and removed at once"),
            ));
        }
        attributes.remove(key);
    }
    for (key, value) in set.iter() {
        attributes.insert(key, value);
    }
    check_attributes(field, attributes)
}
