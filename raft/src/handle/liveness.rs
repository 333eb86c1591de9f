//! Whether consensus moves at all.

use super::Handle;
use crate::error::Error;

impl Handle {
    /// Resolves once the consensus core and then the task that applies entries have each taken a turn: what was
    /// before it in their queues is done. Where one of them is stuck, on a disk that does not answer for example, this
    /// does not resolve; whoever waits brings the deadline.
    ///
    /// # Errors
    /// This node has stopped, or is stopping.
    pub async fn turn(&self) -> Result<(), Error> {
        self.check_running()?;
        let turn = self.node.raft.with_state_machine(|_| Box::pin(async {}));
        turn.await.map_err(|error| self.stopped(error.to_string()))
    }
}
