//! Puts load on a target: threads, each with a runtime, a share of the connections, and counts of its own.
//!
//! A closed loop keeps a number of questions in flight, and so asks less when the target is slow. An open loop asks when a question is due, whatever has
//! become of those before; latency counts from that instant, so that a target that stalls is seen by all who would have had to wait.

mod closed;
mod open;
mod pacer;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::arrivals::Arrivals;
use crate::outcome::{Judgement, Outcome, judge};
use crate::question::Question;
use crate::supply::Supply;
use crate::tally::Tally;
use crate::target::{Http, Target};
use crate::transport::{Ask, Caller, Failure, Link};

/// When questions are asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Always so many without an answer.
    Closed {
        /// How many, over all threads.
        in_flight: u32,
    },
    /// When they are due.
    Open {
        /// When that is.
        arrivals: Arrivals,
        /// How many may be without an answer, over all threads; what is due beyond that is counted as unsent.
        in_flight_most: u32,
    },
}

/// When a run is over: with the first of these.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limit {
    /// So long after the warm-up.
    pub duration: Option<Duration>,
    /// After so many questions, those of the warm-up not counted.
    pub count: Option<u64>,
}

/// What load, on whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// On whom.
    pub target: Target,
    /// Connections over all threads; with HTTP/1.1 in a closed loop there are as many as questions in flight.
    pub connections: u32,
    /// Whether it is an error if one of these cannot be made before the begin; otherwise it is tried again, and counted.
    pub must_connect: bool,
    /// Generator threads.
    pub threads: u32,
    /// When questions are asked.
    pub load: Load,
    /// How long load is put on before anything counts.
    pub warm_up: Duration,
    /// When it ends.
    pub limit: Limit,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What chance is made from.
    pub seed: u64,
}

/// What the threads of a run share.
#[derive(Debug)]
pub(crate) struct Course {
    /// Not before the warm-up is over.
    counting: AtomicBool,
    /// Questions that may still be asked; negative when there are no more.
    left: AtomicI64,
    over: AtomicBool,
    over_told: watch::Sender<bool>,
}

impl Course {
    pub(crate) fn new(count: Option<u64>) -> Self {
        Self {
            counting: AtomicBool::new(false),
            left: AtomicI64::new(count.and_then(|count| i64::try_from(count).ok()).unwrap_or(i64::MAX)),
            over: AtomicBool::new(false),
            over_told: watch::Sender::new(false),
        }
    }

    /// Whether one more question may be asked; it is then to be asked.
    fn take(&self) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        !self.counting.load(Ordering::Relaxed) || self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }

    pub(crate) fn count_from_now(&self) {
        self.counting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.over_told.send_replace(true);
    }

    async fn ended(&self) {
        let _ = self.over_told.subscribe().wait_for(|over| *over).await;
    }
}

/// What the tasks of a thread share.
#[derive(Debug)]
pub(crate) struct Desk {
    supply: Mutex<Supply>,
    tally: Mutex<Tally>,
    timeout: Duration,
    /// Processor time of the thread in nanoseconds, told when it ends.
    cpu_nanos: AtomicU64,
}

impl Desk {
    pub(crate) fn new(supply: Supply, timeout: Duration) -> Self {
        Self { supply: Mutex::new(supply), tally: Mutex::default(), timeout, cpu_nanos: AtomicU64::new(0) }
    }

    fn next(&self) -> Question {
        lock(&self.supply).question()
    }

    /// What was counted since this was last asked.
    pub(crate) fn take(&self) -> Tally {
        let mut tally = std::mem::take(&mut *lock(&self.tally));
        tally.making = lock(&self.supply).take_making();
        tally
    }

    /// Asks a question and counts what comes of it, the latency from `since`.
    async fn ask(&self, asker: &mut impl Ask, question: Question, since: Instant) {
        let Question { body, expected } = question;
        let answered = answer_within(self.timeout, asker, body).await;
        let latency = since.elapsed();
        let judgement = match answered {
            Some(Ok(answer)) => judge(answer.status, &answer.body, &expected),
            Some(Err(Failure::CutOff(reason))) => Judgement::because(Outcome::CutOff, reason),
            Some(Err(Failure::TooLarge)) => Judgement::because(Outcome::Malformed, "the answer is larger than 1 MiB"),
            None => Judgement::because(Outcome::TimedOut, format!("no answer within {:?}", self.timeout)),
        };
        lock(&self.tally).record(judgement, latency);
    }
}

/// `None`: too late.
async fn answer_within(timeout: Duration, asker: &mut impl Ask, body: Bytes) -> Option<Result<crate::transport::Answer, Failure>> {
    tokio::time::timeout(timeout, asker.ask(body)).await.ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads under load.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) course: Arc<Course>,
    pub(crate) desks: Vec<Arc<Desk>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    ended: watch::Receiver<usize>,
}

impl Running {
    /// All that was counted since this was last asked.
    pub(crate) fn take(&self) -> Tally {
        let mut all = Tally::default();
        self.desks.iter().for_each(|desk| all.add(desk.take()));
        all
    }

    /// Questions that were given out, warm-up included.
    pub(crate) fn given(&self) -> u64 {
        self.desks.iter().map(|desk| lock(&desk.supply).given()).sum()
    }

    /// Waits until all threads have come to their end.
    pub(crate) async fn ended(&mut self) {
        let all = self.threads.len();
        let _ = self.ended.wait_for(|ended| *ended == all).await;
    }

    /// Processor time of the threads that have ended.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.desks.iter().map(|desk| desk.cpu_nanos.load(Ordering::Relaxed)).sum())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever waited for their end has seen it; the others get no more questions.
        self.course.end();
    }
}

/// Why no load could be put on a target.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StartError {
    /// It cannot be reached.
    #[error("the target {uri} cannot be asked: {reason}")]
    Connect {
        /// The target.
        uri: String,
        /// What went wrong.
        reason: String,
    },
    /// It was stopped before anything counted.
    #[error("stopped before anything was counted")]
    Stopped,
    /// The system gives no thread or no runtime.
    #[error("cannot start a generator thread: {0}")]
    Thread(String),
}

/// Connects all threads, and lets them go when all are connected.
pub(crate) async fn start(plan: &Plan, supplies: Vec<Supply>, placement: Placement) -> Result<Running, StartError> {
    let course = Arc::new(Course::new(plan.limit.count));
    let (go, _) = watch::channel(false);
    let (ended_told, ended) = watch::channel(0);
    let ended_told = Arc::new(ended_told);
    let (connected_told, mut connected) = tokio::sync::mpsc::unbounded_channel();
    let mut threads = Vec::new();
    let mut desks = Vec::new();
    let of = u32::try_from(supplies.len()).unwrap_or(1);
    for (part, supply) in (0..of).zip(supplies) {
        let desk = Arc::new(Desk::new(supply, plan.timeout));
        desks.push(Arc::clone(&desk));
        let (plan, course, mut go) = (plan.clone(), Arc::clone(&course), go.subscribe());
        let (connected_told, ended_told, placement) = (connected_told.clone(), Arc::clone(&ended_told), placement.clone());
        let work = move || {
            placement.take(part);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else {
                let _ = connected_told.send(Err(Failure::CutOff("no runtime".into())));
                return;
            };
            let mut idle_nanos = 0;
            runtime.block_on(async {
                let share = Share { plan: &plan, part, of };
                match share.connect().await {
                    Ok(callers) => {
                        let _ = connected_told.send(Ok(()));
                        drop(connected_told);
                        // Gone without a word: another thread could not connect.
                        if go.wait_for(|go| *go).await.is_ok() {
                            idle_nanos = thread_cpu_nanos();
                            share.work(callers, &course, &desk).await;
                        }
                    }
                    Err(failure) => drop(connected_told.send(Err(failure))),
                }
            });
            desk.cpu_nanos.store(thread_cpu_nanos() - idle_nanos, Ordering::Relaxed);
            ended_told.send_modify(|ended| *ended += 1);
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(format!("generator-{part}")).spawn(work);
        threads.push(thread.map_err(|error| StartError::Thread(error.to_string()))?);
    }
    drop(connected_told);
    while let Some(result) = connected.recv().await {
        if let Err(failure) = result {
            let reason = match failure {
                Failure::CutOff(reason) => reason,
                Failure::TooLarge => "too much".into(),
            };
            return Err(StartError::Connect { uri: plan.target.uri.to_string(), reason });
        }
    }
    if plan.warm_up.is_zero() {
        course.count_from_now();
    }
    go.send_replace(true);
    Ok(Running { course, desks, threads, ended })
}

/// Processor time of this thread.
fn thread_cpu_nanos() -> u64 {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    }
    #[cfg(not(unix))]
    0
}

/// Which processors the generator threads run on; none named: whichever the system gives.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placement {
    /// Numbers of processors; the threads take turns.
    pub processors: Vec<usize>,
}

impl Placement {
    /// Puts this thread on any of them.
    pub(crate) fn take_all(&self) {
        #[cfg(target_os = "linux")]
        if !self.processors.is_empty() {
            let mut set = rustix::thread::CpuSet::new();
            self.processors.iter().for_each(|processor| set.set(*processor));
            // Where it is refused, it runs elsewhere.
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
    }

    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, clippy::unused_self, reason = "other systems have no such call"))]
    fn take(&self, part: u32) {
        #[cfg(target_os = "linux")]
        if !self.processors.is_empty() {
            let mut set = rustix::thread::CpuSet::new();
            set.set(self.processors[part as usize % self.processors.len()]);
            // Where it is refused, it runs elsewhere.
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
    }
}

/// What one of the threads does.
struct Share<'a> {
    plan: &'a Plan,
    part: u32,
    of: u32,
}

impl Share<'_> {
    /// Our share of `whole`: these add up to it.
    const fn of(&self, whole: u32) -> u32 {
        whole / self.of + (self.part < whole % self.of) as u32
    }

    /// Connections and callers over them: in a closed loop one for each question in flight, else one for each connection.
    async fn connect(&self) -> Result<Connected, Failure> {
        let connections = self.of(self.plan.connections).max(1);
        let links: Vec<_> = (0..connections).map(|_| Link::new(self.plan.target.clone())).collect();
        let callers = match self.plan.load {
            Load::Closed { in_flight } => self.of(in_flight),
            Load::Open { .. } => connections,
        };
        let mut callers: Vec<_> = links.iter().cycle().take(callers as usize).map(Link::caller).collect();
        for caller in &mut callers {
            match caller.connect().await {
                Ok(()) => {}
                Err(failure) if self.plan.must_connect => return Err(failure),
                // The others would only wait for the same; each tries when it has something to ask.
                Err(_) => break,
            }
        }
        Ok(Connected { links, callers })
    }

    async fn work(&self, Connected { links, callers }: Connected, course: &Arc<Course>, desk: &Arc<Desk>) {
        match &self.plan.load {
            Load::Closed { .. } => closed::run(callers, course, desk).await,
            Load::Open { arrivals, in_flight_most } => {
                let seed = self.plan.seed.wrapping_add(u64::from(self.part));
                let schedule = arrivals.schedule(seed, self.part, self.of);
                let (most, pacer) = (self.of(*in_flight_most).max(1), pacer::Pacer::new());
                match self.plan.target.http {
                    Http::One => open::run(open::Exclusive::new(callers), schedule, most, course, desk, pacer).await,
                    Http::Two => open::run(open::Shared::new(links), schedule, most, course, desk, pacer).await,
                }
            }
        }
    }
}

/// What a thread has before it begins.
struct Connected {
    links: Vec<Link>,
    callers: Vec<Caller>,
}
