//! What jobs have used so far, by association and QOS: what limits in minutes are compared with.
//!
//! Owns sums that only grow: nothing decays, and nothing is set back. An end of a run is charged by a record
//! ([`crate::record::Record::Charged`]); what running jobs have used is not in here. Units: seconds of wall time, and
//! TRES × seconds, both times the UsageFactor of the job's QOS.

use std::collections::BTreeMap;

use crate::tally::Tally;

/// What one run adds, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Numbers of the job's association and those above it.
    pub associations: Vec<u32>,
    /// Numbers of its QOS and its partition's.
    pub qos: Vec<u32>,
    /// Seconds.
    pub wall_s: u64,
    /// TRES × seconds.
    pub tres_s: Tally,
}

/// A sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Seconds.
    pub wall_s: u64,
    /// TRES × seconds.
    pub tres_s: Tally,
}

/// All sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// By number of the association.
    pub associations: BTreeMap<u32, Spent>,
    /// By number of the QOS.
    pub qos: BTreeMap<u32, Spent>,
}

impl Spent {
    /// Adds so much.
    pub fn add(&mut self, wall_s: u64, tres_s: &Tally) {
        self.wall_s = self.wall_s.saturating_add(wall_s);
        self.tres_s.add(tres_s);
    }
}

impl Spending {
    /// Adds a charge to each of its scopes.
    pub(crate) fn charge(&mut self, charge: &Charge) {
        for id in &charge.associations {
            self.associations.entry(*id).or_default().add(charge.wall_s, &charge.tres_s);
        }
        for id in &charge.qos {
            self.qos.entry(*id).or_default().add(charge.wall_s, &charge.tres_s);
        }
    }

    /// Charges that make empty sums equal to these.
    pub(crate) fn as_charges(&self) -> impl Iterator<Item = Charge> + '_ {
        let one = |associations: Vec<u32>, qos: Vec<u32>, spent: &Spent| Charge {
            associations,
            qos,
            wall_s: spent.wall_s,
            tres_s: spent.tres_s.clone(),
        };
        let associations = self.associations.iter().map(move |(id, spent)| one(vec![*id], Vec::new(), spent));
        let qos = self.qos.iter().map(move |(id, spent)| one(Vec::new(), vec![*id], spent));
        associations.chain(qos)
    }
}
