//! What ends a process, and what a panic leaves behind.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Tells of a panic where it happened, and not what it said: that may quote a request.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(%place, "panic");
    }));
}

/// Ready when the process is told to end: SIGTERM, or an interrupt at the terminal. A second one ends it at once.
///
/// Both count from this call on, not from when they are first waited for. To be called within a runtime.
pub fn told_to_stop() -> impl Future<Output = ()> + Send {
    let mut signals = Signals::listen();
    async move {
        let signal = signals.next().await;
        tracing::info!(signal, "draining; a second signal ends at once");
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(1);
        });
    }
}

/// The signals that end a process; none where the system gives no handlers, and then they end it as they always do.
#[cfg(unix)]
struct Signals(Option<(Signal, Signal)>);

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        Self(signal(SignalKind::terminate()).and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?))).ok())
    }

    async fn next(&mut self) -> &'static str {
        let Some((terminate, interrupt)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    const fn listen() -> Self {
        Self
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    }
}
