//! A stage: everything that a scenario has started, and its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arngate_core::StsHost;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Amount, Event, Phase, Played, PlayedMemory, PlayedPhase, PlayedReload, Rule, Scenario};
use crate::arrivals::Arrivals;
use crate::ceiling;
use crate::cgroup::Cgroup;
use crate::clock::Clock;
use crate::credential::Credential;
use crate::fixture::{Files, Fixture};
use crate::generator::{Load, Placement, Plan, StartError};
use crate::outcome::{Outcome, judge};
use crate::population::Population;
use crate::process::processors;
use crate::question::{ApiVersion, Needle};
use crate::result::{LATENESS_MOST, Origin, Run, SCHEMA};
use crate::run::{Observer, Second, Seen, prime, run};
use crate::scrape::Scrape;
use crate::sts::{Config, FakeSts};
use crate::subject::{Setting, Started, Subject, SubjectError};
use crate::supply::{Cast, Form, FormError, Order, Stock, region_of};
use crate::target::{Http, TargetError};
use crate::transport::{Ask as _, Link};

/// The cluster that tokens are for.
const CLUSTER_ID: &str = "loadtest";

/// The host of STS that tokens are for.
const STS_HOST: &str = "sts.us-east-1.amazonaws.com";

/// How long a stage waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a reload may take before it is given up.
const RELOAD_MOST: Duration = Duration::from_secs(3);

/// How often it is looked for meanwhile.
const RELOAD_POLL: Duration = Duration::from_millis(10);

/// Everything that a scenario has started with one subject. Dropped, it ends all of it.
#[derive(Debug)]
pub struct Stage {
    scenario: Scenario,
    subject: Subject,
    started: Started,
    cgroup: Option<Cgroup>,
    sts: Option<Sts>,
    fixture: Fixture,
    files: Files,
    placement: Placement,
    clock: Clock,
    seed: u64,
    phases: Vec<PlayedPhase>,
    /// Mappings that were added.
    added: AtomicU32,
    reloads: Mutex<Vec<PlayedReload>>,
    notes: Vec<String>,
    /// Last, so that it goes when nobody uses it any more.
    _folder: TempDir,
}

/// How processors are shared out.
#[derive(Clone, Debug, Default)]
struct Shares {
    target: Vec<usize>,
    others: Vec<usize>,
}

impl Shares {
    /// Half for the target, half for generator and fake STS; where there is one only, the system shares it.
    fn of(processors: Vec<usize>) -> Self {
        if processors.len() < 2 {
            return Self::default();
        }
        let (target, others) = processors.split_at(processors.len() / 2);
        Self { target: target.into(), others: others.into() }
    }
}

impl Stage {
    /// Starts fake STS and subject, or nothing if it is told to `stop` meanwhile. `seed` makes keys and chance.
    ///
    /// # Errors
    ///
    /// [`StageError`].
    pub async fn set_unless(scenario: &Scenario, subject: &Subject, seed: u64, stop: impl Future<Output = ()>) -> Result<Self, StageError> {
        tokio::select! {
            biased;
            () = stop => Err(StageError::Load(StartError::Stopped)),
            set = Self::set(scenario, subject, seed) => set,
        }
    }

    /// Starts fake STS and subject. `seed` makes keys and chance.
    ///
    /// # Errors
    ///
    /// [`StageError`].
    pub async fn set(scenario: &Scenario, subject: &Subject, seed: u64) -> Result<Self, StageError> {
        let scenery = &scenario.scenery;
        let clock = Clock::system();
        let folder = tempfile::Builder::new().prefix("arngate-loadtest-").tempdir().map_err(StageError::Files)?;
        let regulars = Population { shape: scenery.shape, identities: scenery.identities, mappings: scenery.mappings, seed };
        let cast = Cast { regulars, newcomers: 0 };
        let shares = Shares::of(processors());
        let mut fixture = Fixture {
            cast,
            cluster_id: CLUSTER_ID.into(),
            sts_host: STS_HOST.into(),
            region: region_of(STS_HOST)?,
            sts: None,
            offline: scenery.offline,
            settings: scenery.settings.clone(),
        };
        let sts_ca = folder.path().join("sts-ca.pem");
        let mut sts = None;
        if !scenery.offline {
            let late = scenario.phases.iter().flat_map(|phase| &phase.events).filter(|(_, event)| *event == Event::RewriteConfig);
            let known = cast.credentials().into_iter().chain((0..).zip(late).map(|(number, _)| cast.late(number))).collect();
            let running = Sts::start(subject.sts_port().unwrap_or(0), known, scenery.sts_delay, &shares.others).await?;
            std::fs::write(&sts_ca, running.fake().ca_pem()).map_err(StageError::Files)?;
            fixture.sts = Some((running.fake().addr(), sts_ca.clone()));
            sts = Some(running);
        }
        let files = fixture.write(folder.path(), clock.now()).map_err(StageError::Files)?;
        let mut notes = Vec::new();
        let cgroup = scenery.memory_limit.and_then(|limit| match Cgroup::with_memory(limit) {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                notes.push(format!("no control group could be made ({error}): memory was measured, and not limited"));
                None
            }
        });
        if shares.target.is_empty() {
            notes.push("target and generator shared one processor".into());
        }
        let setting = Setting {
            folder: folder.path(),
            files: &files,
            sts_ca: sts.is_some().then_some(sts_ca.as_path()),
            sts_host: STS_HOST,
            region: &fixture.region,
            threads: scenery.threads,
            reply_bytes: reply_bytes(&fixture),
            processors: &shares.target,
            cgroup: cgroup.as_ref(),
        };
        let started = subject.start(&setting).await.map_err(|source| StageError::Subject { subject: subject.to_string(), source })?;
        Ok(Self {
            scenario: scenario.clone(),
            subject: subject.clone(),
            started,
            cgroup,
            sts,
            fixture,
            files,
            placement: Placement { processors: shares.others },
            clock,
            seed,
            phases: Vec::new(),
            added: AtomicU32::new(0),
            reloads: Mutex::default(),
            notes,
            _folder: folder,
        })
    }

    /// Who is on it.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Puts on the load of a phase; says whether it was stopped.
    ///
    /// # Errors
    ///
    /// [`StageError`].
    pub async fn play(&mut self, phase: &Phase, stop: impl Future<Output = ()>) -> Result<bool, StageError> {
        let run = match self.measure(phase, stop).await {
            Err(StageError::Load(StartError::Stopped)) => {
                self.notes.push(format!("stopped before {}", phase.name));
                return Ok(true);
            }
            measured => measured?,
        };
        let stopped = run.summary.stopped;
        self.phases.push(PlayedPhase { name: phase.name.into(), run });
        Ok(stopped)
    }

    /// The same, with its result told and not kept.
    ///
    /// # Errors
    ///
    /// [`StageError`].
    pub async fn measure(&mut self, phase: &Phase, stop: impl Future<Output = ()>) -> Result<Run, StageError> {
        let origin = Origin::here(self.clock.now().as_i64());
        let (plan, order) = (self.plan(phase)?, self.order(phase)?);
        let mut stop = std::pin::pin!(stop);
        if phase.prime {
            let failed = prime(&plan, &order, self.placement.clone(), stop.as_mut()).await?;
            if failed > 0 {
                self.notes.push(format!("{failed} of {} tokens were not let in before {}", order.stock.len(), phase.name));
            }
        }
        let mut eyes = Eyes { started: &self.started, sts: self.sts.as_ref(), peak_rss_bytes: None };
        let finished = {
            let events = self.events(&phase.events);
            let running = run(&plan, &order, 0, self.placement.clone(), &mut eyes, stop);
            // What has not happened when the load is over does not happen any more.
            tokio::pin!(events, running);
            tokio::select! {
                finished = &mut running => finished?,
                () = &mut events => running.await?,
            }
        };
        let peak = eyes.peak_rss_bytes;
        Ok(Run::new(origin, settings(phase, &plan, &order), &finished, LATENESS_MOST, peak))
    }

    /// Ends all of it, and judges.
    pub async fn strike(mut self) -> Played {
        let metrics = self.metrics().await;
        let memory = self.cgroup.as_ref().map(|cgroup| {
            let memory = cgroup.memory();
            PlayedMemory {
                limit_bytes: self.scenario.scenery.memory_limit.unwrap_or_default(),
                peak_bytes: memory.peak_bytes,
                oom_kills: memory.oom_kills,
            }
        });
        let exit_code = if self.has_terminated() { self.started.process.wait().and_then(|status| status.code()) } else { None };
        if self.started.process.ended().is_some() && !self.has_terminated() {
            let output = self.started.process.output();
            self.notes.push(format!("the target had ended; the last that it said: {}", output.last().map_or("", String::as_str)));
        }
        self.started.process.stop();
        if let Some(sts) = self.sts.take() {
            sts.stop().await;
        }
        let mut played = Played {
            schema: SCHEMA.into(),
            scenario: self.scenario.name.into(),
            subject: self.subject.to_string(),
            origin: Origin::here(self.clock.now().as_i64()),
            started_in_ms: self.started.started_in.as_secs_f64() * 1e3,
            phases: std::mem::take(&mut self.phases),
            memory,
            exit_code,
            reloads: std::mem::take(&mut *self.reloads.lock().unwrap_or_else(PoisonError::into_inner)),
            checks: Vec::new(),
            metrics,
            notes: std::mem::take(&mut self.notes),
        };
        // A ceiling knows nothing of STS, and has no bounds; and of what was stopped it is not known what it would have come to.
        let was_stopped = played.phases.len() < self.scenario.phases.len() || played.phases.iter().any(|phase| phase.run.summary.stopped);
        if was_stopped {
            played.notes.push("stopped before its end: its rules were not judged".into());
        }
        let rules = self
            .scenario
            .rules
            .iter()
            .filter(|_| !was_stopped)
            .filter(|rule| self.subject != Subject::Ceiling || **rule == Rule::NoWrongIdentity);
        played.checks = rules.filter_map(|rule| rule.check(&played)).collect();
        played
    }

    /// Whether a phase has told the target to end.
    fn has_terminated(&self) -> bool {
        self.scenario.phases.iter().flat_map(|phase| &phase.events).any(|(_, event)| *event == Event::Terminate)
    }

    /// What the target says of itself, where it does.
    async fn metrics(&self) -> Vec<String> {
        let Ok(target) = self.started.target(Http::One) else { return Vec::new() };
        let Ok(text) = Scrape::new(target).text().await else { return Vec::new() };
        text.lines().filter(|line| line.starts_with("arngate_")).map(str::to_owned).collect()
    }

    fn plan(&self, phase: &Phase) -> Result<Plan, StageError> {
        let most = 65_536;
        let load = match &phase.amount {
            Amount::InFlight(in_flight) => Load::Closed { in_flight: *in_flight },
            Amount::Open(arrivals) => Load::Open { arrivals: arrivals.clone(), in_flight_most: most },
            Amount::ShareOfBefore(share) => {
                let before = self.phases.last().map_or(0.0, |phase| phase.run.summary.rate_per_sec);
                Load::Open { arrivals: Arrivals::Constant { rate: (before * share).max(1.0) }, in_flight_most: most }
            }
        };
        Ok(Plan {
            target: self.started.target(phase.http)?,
            connections: phase.connections,
            must_connect: phase.must_connect,
            threads: 1,
            load,
            warm_up: phase.warm_up,
            limit: phase.limit,
            timeout: TIMEOUT,
            seed: self.seed,
        })
    }

    fn order(&self, phase: &Phase) -> Result<Order, StageError> {
        let mut form = Form::new(CLUSTER_ID, STS_HOST, ApiVersion::V1)?;
        if self.subject == Subject::Ceiling {
            form.always = Some(Arc::new(Needle::new(ceiling::ARN)));
        }
        let cast = self.fixture.cast;
        let stock = Stock::sign(&cast, &form, phase.tokens, &self.clock);
        // Another chance for each phase and round, so that fresh tokens are fresh.
        let seed = self.seed.wrapping_add(self.phases.len() as u64);
        let popularity = crate::mix::Popularity::Uniform;
        Ok(Order { cast, form, mix: phase.mix.clone(), popularity, stock, seed, clock: self.clock.clone() })
    }

    async fn events(&self, events: &[(Duration, Event)]) {
        let begin = Instant::now();
        for (at, event) in events {
            tokio::time::sleep_until(begin + *at).await;
            match event {
                Event::RenewCertificate => {
                    let written = self.files.write_certificate();
                    self.watch_reload("certificate", written, || self.has_new_certificate()).await;
                }
                Event::RewriteConfig => {
                    let number = self.added.fetch_add(1, Ordering::Relaxed);
                    let written = self.rewrite_config(number + 1);
                    self.watch_reload("mappings", written, || self.lets_in(number)).await;
                }
                Event::Sts(behaviour, every) => {
                    if let Some(sts) = &self.sts {
                        sts.fake().set_behaviour_every(*every, behaviour.clone());
                    }
                }
                Event::StsDelay(delay) => {
                    if let Some(sts) = &self.sts {
                        sts.fake().set_delay(*delay);
                    }
                }
                Event::Terminate => self.started.process.terminate(),
            }
        }
        // There is nothing to come; the load goes on.
    }

    /// Asks until what was written acts, or for as long as one waits for that.
    async fn watch_reload<T: Future<Output = bool>>(&self, what: &str, written: std::io::Result<()>, acts: impl Fn() -> T) {
        let reloads = || self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let number = {
            let mut reloads = reloads();
            reloads.push(PlayedReload { what: what.into(), acted_after_ms: None });
            reloads.len() - 1
        };
        let begin = Instant::now();
        while written.is_ok() && begin.elapsed() < RELOAD_MOST {
            if acts().await {
                reloads()[number].acted_after_ms = Some(begin.elapsed().as_secs_f64() * 1e3);
                break;
            }
            tokio::time::sleep(RELOAD_POLL).await;
        }
    }

    /// Whether a new connection is given the certificate that is in the file now.
    async fn has_new_certificate(&self) -> bool {
        let Ok(target) = self.started.target(Http::One) else { return false };
        Link::new(target).caller().connect().await.is_ok()
    }

    /// Whether he is let in for whom the mapping with that number was added.
    async fn lets_in(&self, number: u32) -> bool {
        let (Ok(target), Ok(form)) = (self.started.target(Http::One), Form::new(CLUSTER_ID, STS_HOST, ApiVersion::V1)) else {
            return false;
        };
        let question = form.ask_about(&self.fixture.cast.late(number), &self.clock);
        let answered = Link::new(target).caller().ask(question.body.clone()).await;
        answered.is_ok_and(|answer| judge(answer.status, &answer.body, &question.expected).outcome == Outcome::Allowed)
    }

    /// As editors and Kubernetes do it: a new file takes the place of the old one.
    fn rewrite_config(&self, more: u32) -> std::io::Result<()> {
        let mut fixture = self.fixture.clone();
        fixture.cast.regulars.mappings += more;
        let beside = self.files.config.with_extension("new");
        std::fs::write(&beside, fixture.config(&bundle_beside(&self.files.config)))?;
        std::fs::rename(&beside, &self.files.config)
    }
}

fn bundle_beside(config: &Path) -> PathBuf {
    config.with_file_name("bundle.yaml")
}

/// The length of a target's answer to a regular, so that the ceiling's is as long.
fn reply_bytes(fixture: &Fixture) -> usize {
    let credential = fixture.cast.regulars.credential(0);
    let identity = credential.identity();
    // As arngate writes it; the ceiling pads its own to this.
    let name = "loadtest-000000:session-000000";
    let fixed = r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true,"user":{"username":"","uid":"aws-iam-authenticator:123456789012:","groups":["developers"],"extra":{"accessKeyId":[""],"arn":[""],"canonicalArn":[""],"principalId":[""],"sessionName":[""],"sigs.k8s.io/aws-iam-authenticator/principalId":[""]}}}}"#;
    let (id, session) = identity.user_id.split_once(':').unwrap_or((&identity.user_id, ""));
    let canonical = if session.is_empty() { identity.arn.len() } else { "arn:aws:iam::123456789012:role/loadtest-000000".len() };
    fixed.len()
        + if session.is_empty() { "loadtest-000000".len() } else { name.len() }
        + 3 * id.len()
        + session.len()
        + credential.access_key_id().len()
        + identity.arn.len()
        + canonical
}

fn settings(phase: &Phase, plan: &Plan, order: &Order) -> std::collections::BTreeMap<String, String> {
    let load = match &plan.load {
        Load::Closed { in_flight } => ("in-flight", in_flight.to_string()),
        Load::Open { arrivals, .. } => ("rate", arrivals.to_string()),
    };
    let limit = match (plan.limit.duration, plan.limit.count) {
        (Some(duration), _) => ("duration", format!("{duration:?}")),
        (None, count) => ("count", count.map_or_else(String::new, |count| count.to_string())),
    };
    let cast = order.cast.regulars;
    let all = [
        ("http", phase.http.name().into()),
        ("connections", plan.connections.to_string()),
        ("threads", plan.threads.to_string()),
        ("mix", phase.mix.to_string()),
        ("tokens", order.stock.len().to_string()),
        ("body-bytes", order.stock.body_bytes().to_string()),
        ("shape", cast.shape.to_string()),
        ("identities", cast.identities.to_string()),
        ("mappings", cast.mappings.to_string()),
        ("warm-up", format!("{:?}", plan.warm_up)),
        ("seed", order.seed.to_string()),
        load,
        limit,
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A fake STS in a runtime of its own, so that it does not wait for the generator.
#[derive(Debug)]
struct Sts {
    fake: Option<FakeSts>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sts {
    async fn start(port: u16, known: Vec<Credential>, delay: Duration, processors: &[usize]) -> Result<Self, StageError> {
        let processors = processors.to_vec();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fake-sts")
            .on_thread_start(move || Placement { processors: processors.clone() }.take_all())
            .enable_all()
            .build()
            .map_err(StageError::Files)?;
        let config = Config { port, delay: delay.into(), ..Config::new(Clock::system()).with_credentials(known) };
        let started = runtime.spawn(FakeSts::start(config)).await;
        let mut sts = Self { fake: None, runtime: Some(runtime) };
        match started {
            Ok(fake) => sts.fake = Some(fake?),
            Err(error) => return Err(StageError::Files(std::io::Error::other(error))),
        }
        // The name is checked once, here, so that it is not a surprise in mid-run.
        debug_assert!(StsHost::regional(arngate_core::Partition::Aws, "us-east-1", arngate_core::endpoint::Fips::No).is_ok());
        Ok(sts)
    }

    const fn fake(&self) -> &FakeSts {
        match &self.fake {
            Some(fake) => fake,
            None => unreachable!(),
        }
    }

    async fn stop(mut self) {
        if let Some(fake) = self.fake.take() {
            fake.stop().await;
        }
    }
}

impl Drop for Sts {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // May be dropped from within another runtime, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// Looks at the target's process and at the calls of STS.
struct Eyes<'a> {
    started: &'a Started,
    sts: Option<&'a Sts>,
    peak_rss_bytes: Option<u64>,
}

impl Observer for Eyes<'_> {
    async fn see(&mut self) -> Seen {
        let usage = self.started.process.usage();
        if let Some(usage) = usage {
            self.peak_rss_bytes = Some(usage.peak_rss_bytes);
        }
        Seen {
            sts_calls: self.sts.map(|sts| sts.fake().calls()),
            rss_bytes: usage.map(|usage| usage.rss_bytes),
            cpu: usage.map(|usage| usage.cpu),
        }
    }

    fn second(&mut self, _: &Second) {}
}

/// Why a scenario could not be played.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Files, threads, directories.
    #[error("cannot prepare the scenario")]
    Files(#[source] std::io::Error),
    /// Names that are none.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The target cannot be asked.
    #[error(transparent)]
    Load(#[from] StartError),
    /// The fake STS did not start.
    #[error("cannot start the fake STS")]
    Sts(#[from] crate::sts::StartError),
    /// The subject did not start.
    #[error("{subject} did not start")]
    Subject {
        /// Which.
        subject: String,
        /// Why not.
        source: SubjectError,
    },
    /// The subject's certificate is none.
    #[error(transparent)]
    Target(#[from] TargetError),
}
