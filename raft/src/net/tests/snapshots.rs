//! Snapshots that do not arrive as they were sent: the state there was stays, and the next one
//! that does arrive is taken.

use std::sync::Arc;

use bytes::Bytes;

use super::{Line, World, register, until};
use crate::engine::{Engine, Table};
use crate::net::NetError;
use crate::net::message::{Lane, Message};
use crate::state::rows::{CURRENT, Current};
use crate::state::snapshot::export;
use crate::testing::{Disks, config, identity};
use crate::types::VoteRow;
use crate::{Boot, Endpoint, Handle, Threads};
use statemachine::Revision;

const RECEIVER: u64 = 2;

/// Where the receiver listens: the leader does not know it, so that only the test reaches it.
fn hidden() -> Endpoint {
    Endpoint {
        raft: "hidden:1".into(),
        api: "hidden:2".into(),
    }
}

/// The snapshot of a node that nobody writes to.
struct Snapshot {
    current: Current,
    chunks: Vec<Bytes>,
}

impl Snapshot {
    /// In small chunks, so that there are some to lose.
    async fn of(engine: Arc<dyn Engine>) -> Self {
        let row = engine.get(Table::StateMeta, CURRENT).unwrap().unwrap();
        let current = Current::decode(&row).unwrap();
        let mut outgoing = export(engine, current.clone(), Revision(1), 300, Threads::Own)
            .await
            .unwrap();
        let mut chunks = Vec::new();
        while let Some(chunk) = outgoing.next().await.unwrap() {
            chunks.push(chunk);
        }
        assert!(chunks.len() > 5, "{} chunks are too few to lose some", chunks.len());
        Self { current, chunks }
    }

    fn count(&self) -> u64 {
        self.chunks.len() as u64
    }

    async fn begin(&self, line: &Line) {
        let current = self.current.clone();
        let begun = line.ask(Message::SnapshotBegin { current }, Vec::new()).await;
        assert_eq!(begun.unwrap(), Message::SnapshotTaken);
    }

    async fn chunk(&self, line: &Line, number: u64) -> Result<Message, NetError> {
        let chunk = self.chunks[number as usize].clone();
        line.ask(Message::SnapshotChunk { number }, vec![chunk]).await
    }

    /// Sends these chunks, all of which are taken.
    async fn chunks(&self, line: &Line, numbers: std::ops::Range<u64>) {
        for number in numbers {
            assert_eq!(self.chunk(line, number).await.unwrap(), Message::SnapshotTaken);
        }
    }
}

/// A leader, and a node that receives what the test sends in its name.
struct Pair {
    world: World,
    receiver: Handle,
    disks: Disks,
}

impl Pair {
    async fn start() -> Self {
        let world = World::start(1, config()).await;
        let disks = Disks::default();
        let own = identity(RECEIVER);
        let uri = own.uri_of(own.node);
        let boot = Boot {
            identity: own,
            config: config(),
            log: disks.log.open(),
            state: disks.state.open(),
            clock: Arc::new(crate::testing::SystemClock::default()),
            dial: world.network.dialer(Some(&uri)),
            listen: world.network.listen(&hidden().raft, &uri),
            seed: 2,
            incarnation: Default::default(),
            pinned: None,
        };
        let receiver = crate::start(boot).await.unwrap();
        Self { world, receiver, disks }
    }

    fn line(&self) -> Line {
        Line::new(&self.world.network, 1, RECEIVER, &hidden(), Lane::Snapshot)
    }

    async fn register(&self, peers: std::ops::Range<u64>) {
        for n in peers {
            self.world.propose(register(n as usize)).await;
        }
    }

    async fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.world.disks[&1].state.open()).await
    }

    async fn end(&self, line: &Line, chunks: u64) -> Result<Message, NetError> {
        let vote = VoteRow {
            term: self.world.nodes[&1].status().term,
            node: 1,
            committed: true,
        };
        line.ask(Message::SnapshotEnd { chunks, vote }, Vec::new()).await
    }

    /// Sends all of it. Answers how many peers the receiver has then.
    async fn send(&self, snapshot: &Snapshot) -> u64 {
        let line = self.line();
        snapshot.begin(&line).await;
        snapshot.chunks(&line, 0..snapshot.count()).await;
        match self.end(&line, snapshot.count()).await.unwrap() {
            Message::SnapshotInstalled { .. } => {}
            other => panic!("{other:?}"),
        }
        let (sent, here) = (self.world.nodes[&1].view(), self.receiver.view());
        assert_eq!(here.state().mesh.digest(), sent.state().mesh.digest());
        assert_eq!(here.state().mesh.chain(), sent.state().mesh.chain());
        here.state().mesh.peer_count()
    }

    /// Generations that have rows on the receiver's disk.
    fn generations(&self) -> usize {
        let keys = self.disks.state.keys(Table::Records);
        let mut found: Vec<_> = keys.into_iter().map(|key| key[..4].to_vec()).collect();
        found.dedup();
        found.len()
    }
}

/// A way for a transfer to go wrong once it has begun.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// The connection is lost with half of it sent.
    Lost,
    /// A chunk is left out.
    Missing,
    /// A chunk comes twice.
    Twice,
    /// A chunk has other bytes than were sent.
    Damaged,
    /// Fewer were sent than the end says.
    More,
    /// More were sent than the end says.
    Fewer,
    /// The first chunk is left out, and nobody counts it.
    Uncounted,
    /// Another begins in its place; it is nothing yet.
    BegunAnew,
}

impl Wrong {
    const ALL: [Self; 8] = [
        Self::Lost,
        Self::Missing,
        Self::Twice,
        Self::Damaged,
        Self::More,
        Self::Fewer,
        Self::Uncounted,
        Self::BegunAnew,
    ];

    async fn happen(self, pair: &Pair, snapshot: &Snapshot) {
        let (line, all) = (pair.line(), snapshot.count());
        snapshot.begin(&line).await;
        let refused = match self {
            Self::Lost => {
                snapshot.chunks(&line, 0..all / 2).await;
                return;
            }
            Self::Missing => {
                snapshot.chunks(&line, 0..all / 2).await;
                snapshot.chunk(&line, all / 2 + 1).await
            }
            Self::Twice => {
                snapshot.chunks(&line, 0..2).await;
                snapshot.chunk(&line, 1).await
            }
            Self::Damaged => {
                let mut bytes = snapshot.chunks[0].to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                line.ask(Message::SnapshotChunk { number: 0 }, vec![bytes.into()]).await
            }
            Self::More => {
                snapshot.chunks(&line, 0..all - 1).await;
                pair.end(&line, all).await
            }
            Self::Fewer => {
                snapshot.chunks(&line, 0..all).await;
                pair.end(&line, all - 1).await
            }
            Self::Uncounted => {
                for number in 0..all - 1 {
                    let chunk = snapshot.chunks[number as usize + 1].clone();
                    let taken = line.ask(Message::SnapshotChunk { number }, vec![chunk]).await;
                    assert_eq!(taken.unwrap(), Message::SnapshotTaken);
                }
                pair.end(&line, all - 1).await
            }
            Self::BegunAnew => {
                snapshot.chunks(&line, 0..all).await;
                snapshot.begin(&line).await;
                pair.end(&line, all).await
            }
        };
        assert!(matches!(refused, Err(NetError::Remote(_))), "{self:?}: {refused:?}");
        // What went wrong is over: there is nothing to add to, or to end.
        for late in [snapshot.chunk(&line, 0).await, pair.end(&line, all).await] {
            match late {
                Err(NetError::Remote(why)) => assert!(why.contains("no snapshot has begun"), "{self:?}: {why}"),
                other => panic!("{self:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_cut_short_leaves_what_there_was_and_a_later_one_is_taken() {
    let pair = Pair::start().await;
    pair.register(0..10).await;
    let first = pair.snapshot().await;
    assert_eq!(pair.send(&first).await, 10);
    let mut had = 10;
    for wrong in Wrong::ALL {
        pair.register(had..had + 10).await;
        let snapshot = pair.snapshot().await;
        let before = pair.receiver.view();
        for _ in 0..2 {
            wrong.happen(&pair, &snapshot).await;
            let view = pair.receiver.view();
            assert_eq!(
                (view.applied_index(), view.state().mesh.digest()),
                (before.applied_index(), before.state().mesh.digest()),
                "{wrong:?}"
            );
            assert!(pair.receiver.status().fatal.is_none(), "{wrong:?}");
        }
        had += 10;
        assert_eq!(pair.send(&snapshot).await, had, "after {wrong:?}");
    }
    // Nor do the rows of any of those stay on the disk: the next transfer removes them.
    let last = pair.snapshot().await;
    last.begin(&pair.line()).await;
    until("rows of lost transfers are removed", || pair.generations() == 1).await;

    // And it holds what the disk holds.
    pair.receiver.shutdown(super::SOON).await.unwrap();
    let row = pair.disks.state.open().get(Table::StateMeta, CURRENT).unwrap().unwrap();
    assert_eq!(Current::decode(&row).unwrap().revision, last.current.revision);
}
