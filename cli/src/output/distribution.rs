//! How shards are spread over peers: a line and a bar for each.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{ShardLoad, shard};

use super::{
    Look, count, style,
    table::{self, Text},
};
use crate::{peers::Peers, weights::Weights};

/// Columns of a bar whose peer owns as much as whoever owns the most.
const BAR: u64 = 32;
/// With more peers than this only the ends are shown: who owns the most and who the least.
const PEERS_MAX: usize = 40;
/// How many of each end.
const ENDS: usize = 15;

/// What one peer holds, and what it held or would hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    peer: String,
    owned: u64,
    replicas: u64,
    /// Its share of work, against those of the others.
    weight: u64,
    /// Before, where that is another question.
    before: Option<(u64, u64)>,
}

/// Shards counted by who owns and who holds them.
#[derive(Debug, Default)]
pub struct Counted {
    peers: BTreeMap<String, (u64, u64)>,
    statuses: BTreeMap<i32, u64>,
    shards: u64,
    unowned: u64,
}

impl Counted {
    /// Counts one more.
    pub fn add(&mut self, shard: &proto::v1::Shard) {
        self.shards += 1;
        *self.statuses.entry(shard.status).or_default() += 1;
        match shard.owner.as_str() {
            "" => self.unowned += 1,
            owner => self.peer(owner).0 += 1,
        }
        for replica in &shard.replicas {
            self.peer(replica).1 += 1;
        }
    }

    fn owned_by(&self, peers: &BTreeSet<String>) -> u64 {
        let owners = self.peers.iter().filter(|(peer, _)| peers.contains(*peer));
        owners.map(|(_, (owned, _))| owned).sum()
    }

    fn peer(&mut self, peer: &str) -> &mut (u64, u64) {
        // Not `entry`: nearly always it is there, and its name need not be copied.
        if !self.peers.contains_key(peer) {
            self.peers.insert(peer.to_owned(), (0, 0));
        }
        self.peers.entry(peer.to_owned()).or_default()
    }

    /// One line for all of them, then one for each peer, measured by what it weighs.
    pub fn render(&self, known: &Peers, look: Look) -> String {
        let mut parts = Vec::new();
        for (status, number) in &self.statuses {
            let status = shard::Status::try_from(*status).unwrap_or_default();
            parts.push(format!("{number} {}", super::word(status.as_str_name())));
        }
        let parts = match parts.is_empty() {
            true => String::new(),
            false => format!(": {}", parts.join(", ")),
        };
        let rows = self.peers.iter().map(|(peer, (owned, replicas))| Row {
            peer: peer.clone(),
            owned: *owned,
            replicas: *replicas,
            weight: known.weights.of(peer),
            before: None,
        });
        let of_silent = match self.unowned == self.shards {
            true => Some(0),
            false => known.silent.as_ref().map(|silent| self.owned_by(silent)),
        };
        let all = format!(
            "{}{parts}; {}{}\n",
            count(self.shards, "shard"),
            match self.unowned {
                0 => "all have an owner".to_owned(),
                1 => "1 has no owner".to_owned(),
                more => format!("{more} have no owner"),
            },
            owned_by_silent(of_silent).map_or_else(String::new, |said| format!("; {said}")),
        );
        all + &render(rows.collect(), look)
    }
}

/// What is said of shards whose owner may not be there, and of how many that are is not known; nothing where there are none.
pub fn owned_by_silent(shards: Option<u64>) -> Option<String> {
    match shards {
        Some(0) => None,
        Some(1) => Some("1 owned by a silent peer: mesh presence list".to_owned()),
        Some(more) => Some(format!("{more} owned by silent peers: mesh presence list")),
        None => Some("how many are owned by silent peers is not known: mesh presence list".to_owned()),
    }
}

/// What peers hold, measured by what they weigh.
pub fn now(loads: &[ShardLoad], weights: &Weights, look: Look) -> String {
    let rows = loads.iter().map(|load| Row {
        peer: load.peer.clone(),
        owned: load.owned_after.into(),
        replicas: load.replicas_after.into(),
        weight: weights.of(&load.peer),
        before: None,
    });
    render(rows.collect(), look)
}

/// What peers hold before and after, measured by what they weigh.
pub fn change(loads: &[ShardLoad], weights: &Weights, look: Look) -> String {
    let rows = loads.iter().map(|load| Row {
        peer: load.peer.clone(),
        owned: load.owned_after.into(),
        replicas: load.replicas_after.into(),
        weight: weights.of(&load.peer),
        before: Some((load.owned_before.into(), load.replicas_before.into())),
    });
    render(rows.collect(), look)
}

/// What the rows are measured by.
#[derive(Clone, Copy)]
struct Scale {
    /// Shards that are owned.
    total: u64,
    /// Peers that own any.
    holding: u64,
    /// What they weigh together.
    weight: u64,
    /// Whether the peers weigh different things: then a share is not the mean.
    weighed: bool,
    /// What the one with the most owns.
    most: u64,
}

impl Scale {
    /// `part` of `whole`, rounded; 0 of nothing.
    fn share(part: u64, whole: u64) -> u64 {
        (part + whole / 2).checked_div(whole).unwrap_or_default()
    }

    /// The mean, in tenths.
    fn mean(self) -> u64 {
        Self::share(self.total * 10, self.holding)
    }

    /// What a peer owns of what would be its by its weight.
    fn percent(self, row: &Row) -> Text {
        match self.total * row.weight {
            0 => Text::new(""),
            due => Text::from(format!("{} %", Self::share(row.owned * 100 * self.weight, due))),
        }
    }

    /// `########|##` above what would be the peer's by its weight, `####....|` below it: where all weigh the same the `|` stands
    /// at the mean in every line.
    fn bar(self, row: &Row) -> Text {
        let filled = Self::share(row.owned * BAR, self.most);
        // A peer that owns next to nothing of what is due to it needs no bar beyond the longest.
        let mark = Self::share(self.total * row.weight * BAR, self.most * self.weight).min(BAR);
        let mut bar = String::new();
        for column in 0..filled.max(mark) {
            if column == mark {
                bar.push('|');
            }
            bar.push(if column < filled { '#' } else { '.' });
        }
        if mark >= filled && mark > 0 {
            bar.push('|');
        }
        Text::new(&bar)
    }
}

fn render(mut rows: Vec<Row>, look: Look) -> String {
    let owning = || rows.iter().map(|row| row.owned).filter(|owned| *owned > 0);
    let scale = Scale {
        total: owning().sum(),
        holding: owning().count() as u64,
        weight: rows.iter().filter(|row| row.owned > 0).map(|row| row.weight).sum(),
        weighed: rows
            .iter()
            .any(|row| rows.first().is_some_and(|first| first.weight != row.weight)),
        most: owning().max().unwrap_or_default(),
    };
    let mut text = String::new();
    if let Some(least) = owning().min() {
        let peers = count(scale.holding, "peer");
        let (most, mean) = (scale.most, scale.mean());
        let own = match (scale.holding, least == most) {
            (1, _) => format!("1 peer owns {most}"),
            (_, true) => format!("{peers} own {most} each"),
            (_, false) => format!(
                "{peers} own {least} to {most} each, {}.{} on average",
                mean / 10,
                mean % 10
            ),
        };
        text = match rows.iter().filter(|row| row.owned == 0).count() {
            0 => format!("{own}\n"),
            1 => format!("{own}; 1 owns none\n"),
            none => format!("{own}; {none} own none\n"),
        };
    } else if rows.iter().all(|row| row.before.is_none()) {
        return text;
    }
    let between = match !look.wide && rows.len() > PEERS_MAX {
        true => rows.len() - 2 * ENDS,
        false => 0,
    };
    if between > 0 {
        rows.sort_by(|a, b| b.owned.cmp(&a.owned).then_with(|| a.peer.cmp(&b.peer)));
        rows.drain(ENDS..ENDS + between);
    }
    text.push_str(&table_of(&rows, scale, look));
    if between > 0 {
        text.push_str(&format!(
            "those with the most and the least; {between} between them: -o wide shows all\n"
        ));
    }
    text
}

fn table_of(rows: &[Row], scale: Scale, look: Look) -> String {
    let changes = rows.iter().any(|row| row.before.is_some());
    let copies = rows
        .iter()
        .any(|row| row.replicas > 0 || row.before.is_some_and(|(_, copies)| copies > 0));
    let mut header = vec!["peer"];
    match changes {
        true => header.extend(["before", "after", "change"]),
        false => header.push("owned"),
    }
    match (copies, changes) {
        (true, true) => header.extend(["replicas", "change"]),
        (true, false) => header.push("replicas"),
        (false, _) => {}
    }
    header.extend(match scale.weighed {
        true => ["of share", "|share"],
        false => ["of mean", "|mean"],
    });
    let cells = rows.iter().map(|row| {
        let mut cells = vec![Text::new(&row.peer)];
        cells.extend(row.before.map(|(before, _)| before.into()));
        cells.push(row.owned.into());
        cells.extend(row.before.map(|(before, _)| signed(before, row.owned)));
        if copies {
            cells.push(row.replicas.into());
            cells.extend(row.before.map(|(_, before)| signed(before, row.replicas)));
        }
        cells.extend([scale.percent(row), scale.bar(row)]);
        cells
    });
    table::rows(&header, cells, look.colour)
}

/// `+3`, `-2`, `0`
fn signed(before: u64, after: u64) -> Text {
    match after.cmp(&before) {
        std::cmp::Ordering::Greater => Text::from(format!("+{}", after - before)).styled(style::CYAN),
        std::cmp::Ordering::Less => Text::from(format!("-{}", before - after)).styled(style::YELLOW),
        std::cmp::Ordering::Equal => Text::from(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        wide: false,
        colour: false,
        now: jiff::Timestamp::UNIX_EPOCH,
    };

    fn load(peer: &str, before: u32, after: u32) -> ShardLoad {
        ShardLoad {
            peer: peer.to_owned(),
            owned_before: before,
            owned_after: after,
            ..ShardLoad::default()
        }
    }

    #[test]
    fn the_mean_stands_in_one_column() {
        let text = now(
            &[load("p1", 0, 40), load("p2", 0, 20), load("p3", 0, 0)],
            &Weights::default(),
            LOOK,
        );
        assert_eq!(
            text,
            "2 peers own 20 to 40 each, 30.0 on average; 1 owns none\n\
             PEER  OWNED  OF MEAN  |MEAN\n\
             p1    40     133 %    ########################|########\n\
             p2    20     67 %     ################........|\n\
             p3    0      0 %      ........................|\n"
        );
    }

    #[test]
    fn who_weighs_more_is_due_more() {
        let node = proto::v1::simulate_shards_request::Node {
            id: "p2".to_owned(),
            weight: Some(300),
            ..Default::default()
        };
        let weights = Weights::default().with(&[node]);
        let text = now(&[load("p1", 0, 10), load("p2", 0, 30)], &weights, LOOK);
        assert_eq!(
            text,
            "2 peers own 10 to 30 each, 20.0 on average\n\
             PEER  OWNED  OF SHARE  |SHARE\n\
             p1    10     100 %     ###########|\n\
             p2    30     100 %     ################################|\n"
        );
        let mut counted = Counted::default();
        for (owner, shards) in [("p1", 10), ("p2", 30)] {
            let shard = proto::v1::Shard {
                owner: owner.to_owned(),
                ..Default::default()
            };
            (0..shards).for_each(|_| counted.add(&shard));
        }
        let known = Peers { weights, silent: None };
        assert!(counted.render(&known, LOOK).ends_with(&text));
    }

    #[test]
    fn a_change_is_signed() {
        let text = change(
            &[load("p1", 4, 2), load("p2", 0, 2), load("p3", 2, 0)],
            &Weights::default(),
            LOOK,
        );
        let cells: Vec<Vec<&str>> = text
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(cells[0][..6], ["p1", "4", "2", "-2", "100", "%"]);
        assert_eq!(cells[1][..6], ["p2", "0", "2", "+2", "100", "%"]);
        assert_eq!(cells[2][..6], ["p3", "2", "0", "-2", "0", "%"]);
        let gone = change(&[load("p1", 4, 0)], &Weights::default(), LOOK);
        assert!(gone.starts_with("PEER") && gone.contains("-4"), "{gone}");
        assert_eq!(now(&[], &Weights::default(), LOOK), "");
    }

    #[test]
    fn of_many_the_ends_are_shown() {
        let loads: Vec<ShardLoad> = (0..1_000).map(|at| load(&format!("p{at:03}"), 0, 1 + at)).collect();
        let text = now(&loads, &Weights::default(), LOOK);
        assert_eq!(text.lines().count(), 1 + 1 + 30 + 1, "{text}");
        assert!(
            text.contains("p999") && text.contains("p000") && !text.contains("p500"),
            "{text}"
        );
        assert!(text.contains("970 between them"), "{text}");
        let wide = now(&loads, &Weights::default(), Look { wide: true, ..LOOK });
        assert_eq!(wide.lines().count(), 1 + 1 + 1_000);
    }
}
