//! Waits for an instant, to some microseconds where the system can.
//!
//! tokio's own timers count in milliseconds: at ten questions in a millisecond they would ask them all at its end, and the target would look half a
//! millisecond slower than it is.

use std::time::Duration;

use tokio::time::Instant;

/// What is due within so long of a wake-up is asked with the next one, and its latency counts from when it was due.
///
/// To be woken, to write, and to wake who reads takes as much processor time as ten questions. Where one question is due every 55 µs and each is given that, generator
/// and fake STS take 95 % of a processor to put half its load on a target, and what is then measured is how they queue.
const TOGETHER: Duration = Duration::from_micros(200);

/// Waits for instants.
#[derive(Debug)]
pub(super) struct Pacer {
    /// No wake-up before that.
    rest_until: Instant,
    #[cfg(target_os = "linux")]
    timer: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

impl Pacer {
    /// A timer of the system, in the present runtime; where there is none, and in a runtime whose time stands still, tokio's.
    pub(super) fn new() -> Self {
        Self {
            rest_until: Instant::now(),
            #[cfg(target_os = "linux")]
            timer: linux::timer(),
        }
    }

    /// tokio's own timer: for tests, whose clock the system does not know of.
    #[cfg(test)]
    pub(super) fn of_tokio() -> Self {
        Self {
            rest_until: Instant::now(),
            #[cfg(target_os = "linux")]
            timer: None,
        }
    }

    /// Waits until `due` at least; not at all if that is past.
    pub(super) async fn wait_until(&mut self, due: Instant) {
        let now = Instant::now();
        let Some(at) = self.wake_up_at(due, now) else { return };
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && linux::wait(timer, at - now).await.is_some()
        {
            return;
        }
        tokio::time::sleep_until(at).await;
    }

    /// When to wake up for what is due then; none: there is nothing to wait for.
    fn wake_up_at(&mut self, due: Instant, now: Instant) -> Option<Instant> {
        if due <= now {
            return None;
        }
        let at = due.max(self.rest_until);
        self.rest_until = at + TOGETHER;
        Some(at)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) fn timer() -> Option<AsyncFd<OwnedFd>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        #[expect(
            deprecated,
            reason = "unsound for what closes its descriptor before its end, which an OwnedFd does not; the new one is `unsafe`"
        )]
        AsyncFd::with_interest(timer, Interest::READABLE).ok()
    }

    /// `None`: the system would not.
    pub(super) async fn wait(timer: &AsyncFd<OwnedFd>, left: Duration) -> Option<()> {
        let value = Timespec { tv_sec: i64::try_from(left.as_secs()).ok()?, tv_nsec: left.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).ok()?;
        loop {
            let mut ready = timer.readable().await.ok()?;
            // How often it has gone off: it says so once, and blocks before that.
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0_u8; 8])?)) {
                Ok(read) => return read.ok().map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_soon_after_a_wake_up_waits_for_the_next_one_and_what_is_due_later_does_not() {
        let mut pacer = Pacer::of_tokio();
        let begin = Instant::now();
        let at = |micros| begin + Duration::from_micros(micros);
        assert_eq!(pacer.wake_up_at(at(1000), at(900)), Some(at(1000)));
        assert_eq!(pacer.wake_up_at(at(1050), at(1001)), Some(at(1200)), "no second wake-up within 200 us");
        for due in [1100, 1150, 1200] {
            assert_eq!(pacer.wake_up_at(at(due), at(1200)), None, "what was due meanwhile is asked at once");
        }
        assert_eq!(pacer.wake_up_at(at(1500), at(1210)), Some(at(1500)), "nobody rests longer than that");
    }
}
