//! Holds answers until told: what tests use instead of sleeping.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

/// A gate in front of all answers: calls wait at it until they are let through. Dropped, it opens.
///
/// ```
/// # use arngate_core::UnixSeconds;
/// # use arngate_loadtest::{clock::Clock, sts};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sts = sts::FakeSts::start(sts::Config::new(Clock::fixed(UnixSeconds::new(0)))).await?;
/// let gate = sts.hold();
/// // … start three log-ins, then
/// # if false {
/// gate.wait_held(3).await; // all three have asked STS
/// gate.pass(1); // one gets its answer
/// # }
/// gate.open(); // the rest, and all to come
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Gate(Arc<State>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State { passes: Semaphore::new(0), held: watch::Sender::new(0) }))
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.0)
    }

    /// How many calls stand at it.
    #[must_use]
    pub fn held(&self) -> usize {
        *self.0.held.borrow()
    }

    /// Waits until at least `calls` calls stand at it.
    pub async fn wait_held(&self, calls: usize) {
        // The sender lives as long as we do, so that waiting cannot fail.
        let _ = self.0.held.subscribe().wait_for(|held| *held >= calls).await;
    }

    /// Lets `calls` calls through, those that stand at it first.
    pub fn pass(&self, calls: usize) {
        self.0.passes.add_permits(calls);
    }

    /// Lets all through, now and from now on.
    pub fn open(&self) {
        self.0.passes.close();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// What the gate's owner and the calls share.
#[derive(Debug)]
pub(crate) struct State {
    passes: Semaphore,
    held: watch::Sender<usize>,
}

impl State {
    /// Waits to be let through.
    pub(crate) async fn enter(&self) {
        self.held.send_modify(|held| *held += 1);
        let _held = Held(&self.held);
        if let Ok(pass) = self.passes.acquire().await {
            pass.forget();
        }
    }
}

/// Counts a call at the gate, also one whose client has gone.
struct Held<'a>(&'a watch::Sender<usize>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lets_through_as_many_as_told_and_all_once_open() {
        let gate = Gate::new();
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let state = gate.state();
                tokio::spawn(async move { state.enter().await })
            })
            .collect();
        gate.wait_held(3).await;
        gate.pass(1);
        let _ = gate.0.held.subscribe().wait_for(|held| *held == 2).await;
        assert_eq!(gate.held(), 2);
        let state = gate.state();
        drop(gate);
        for call in calls {
            call.await.unwrap();
        }
        state.enter().await;
        assert_eq!(*state.held.borrow(), 0);
    }

    #[tokio::test]
    async fn a_call_that_gave_up_is_not_held() {
        let gate = Gate::new();
        let state = gate.state();
        let call = tokio::spawn(async move { state.enter().await });
        gate.wait_held(1).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        assert_eq!(gate.held(), 0);
    }
}
