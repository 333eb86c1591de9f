//! `peers.label`

use serde::{Deserialize, Serialize};

use super::peer;
use crate::{
    Effects, Event, Handler, PeerId, Record, Rejection, View,
    record::{Attributes, Kind, check_attribute_key, check_attributes},
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

impl Handler for PatchPeer {
    fn action(&self) -> &'static str {
        "peers.label"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view.mesh, &self.id)?;
        let mut after = before.clone();
        patch(
            "labels",
            &mut after.spec.labels,
            &self.labels,
            "removeLabels",
            &self.remove_labels,
        )?;
        patch(
            "metadata",
            &mut after.spec.metadata,
            &self.metadata,
            "removeMetadata",
            &self.remove_metadata,
        )?;
        if after == *before {
            return Ok(Effects::unchanged());
        }
        Ok(Effects::default()
            .put(Record::Peer(after.into()))
            .event(Event::PeerPatched(self.id.clone())))
    }
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
    attributes.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    check_attributes(field, attributes)
}
