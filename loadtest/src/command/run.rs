//! `arngate-loadtest run`: load on a webhook that is already there.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arngate_loadtest::arrivals::Arrivals;
use arngate_loadtest::clock::Clock;
use arngate_loadtest::generator::{Limit, Load, Placement, Plan};
use arngate_loadtest::kubeconfig::Kubeconfig;
use arngate_loadtest::mix::{Kind, Mix, Popularity};
use arngate_loadtest::process::Usage;
use arngate_loadtest::question::{ApiVersion, Needle};
use arngate_loadtest::report::Document;
use arngate_loadtest::result::{Micros, Origin, Run};
use arngate_loadtest::run::{Observer, Second, Seen, run as run_plan};
use arngate_loadtest::scrape::Scrape;
use arngate_loadtest::sts::parse_duration;
use arngate_loadtest::supply::{Form, Order, Stock};
use arngate_loadtest::target::{Http, Target};
use arngate_loadtest::threshold::Threshold;
use clap::Args;

use super::cast::CastArguments;
use super::report::write_one;
use super::stop_signal;

/// The run is void: the generator was late.
pub(super) const EXIT_VOID: u8 = 3;

/// A threshold was crossed.
pub(super) const EXIT_FAILED: u8 = 4;

/// Longest run with tokens that were signed before it: they are good for 15 minutes.
const REPEATED_MOST: Duration = Duration::from_secs(12 * 60);

/// Put load on a webhook, and check each of its answers.
///
/// Without --rate it is a closed loop: --in-flight questions are without an answer at any time. With --rate it is an open one: questions are asked
/// when they are due, and latency counts from then. Exit code 3: the run is void, for the generator was late; 4: a --fail-if holds.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    load: LoadArguments,

    /// Kinds of tokens with their shares: expired, fresh-new-identity, fresh-same-identity, forged-known-key, forged-unknown-key, garbage,
    /// repeated, session-token
    #[arg(long, value_name = "KIND[=SHARE],…", default_value = "repeated")]
    mix: Mix,

    /// How many repeated tokens there are, over all identities
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tokens: u32,

    /// How often which of the repeated tokens and of the identities: uniform, or zipf:EXPONENT
    #[arg(long, value_name = "POPULARITY", default_value = "uniform")]
    popularity: Popularity,

    /// Make so many questions for each thread before the run; what is needed beyond that is signed on the fly
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    sign_ahead: u32,

    /// Ask about each repeated token once before the run, so that a cache has them all
    #[arg(long)]
    prime: bool,

    /// Version of the TokenReview: v1 or v1beta1
    #[arg(long, value_name = "VERSION", default_value = "v1")]
    api_version: ApiVersion,

    /// All answers tell this ARN, whoever signed: so those of `ceiling`
    #[arg(long, value_name = "ARN")]
    expect_arn: Option<String>,

    #[command(flatten)]
    cast: CastArguments,

    /// Fail (exit code 4) if this holds: p50, p90, p95, p99, p99.9, max, mean, rate, completed, unsent or an outcome, one of > >= < <=, and a value
    /// (repeatable), as in 'p99>5ms' or 'denied>0'
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Threshold>,

    /// How late 99 of 100 questions of an open loop may be asked before the run is void
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1ms")]
    lateness: Duration,

    /// Write all of the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a report with plots, as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Run the generator threads on these processors, in turn
    #[arg(long, value_name = "NUMBER,…", value_delimiter = ',')]
    processors: Vec<usize>,
}

/// Whom to ask.
#[derive(Args, Debug)]
#[command(next_help_heading = "Whom to ask")]
struct TargetArguments {
    /// URL of the webhook
    #[arg(long, value_name = "URL", required_unless_present = "kubeconfig")]
    target: Option<String>,

    /// Certificates to trust the target by
    #[arg(long, value_name = "FILE", required_unless_present = "kubeconfig")]
    ca: Option<PathBuf>,

    /// The webhook kubeconfig of an API server: URL, certificates and the client's certificate from there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "ca"])]
    kubeconfig: Option<PathBuf>,

    /// Put load on a target that is not on this machine
    #[arg(long)]
    i_own_this_target: bool,

    /// HTTP version: h1 or h2
    #[arg(long, value_name = "VERSION", default_value = "h2")]
    http: Http,

    /// Process of the target on this machine: its memory and processor time go into the result
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Ask the target's /metrics once a second how often it has called STS (aws_iam_authenticator_sts_responses_total)
    #[arg(long)]
    count_sts_calls: bool,
}

/// How much to ask.
#[derive(Args, Debug)]
#[command(next_help_heading = "How much to ask")]
struct LoadArguments {
    /// Questions without an answer at any time, over all connections (closed loop)
    #[arg(long, value_name = "NUMBER", default_value_t = 64, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,

    /// Questions a second (open loop): RATE, poisson:RATE, ramp:FROM-TO/DURATION or steps:RATE/DURATION,…
    #[arg(long, value_name = "ARRIVALS")]
    rate: Option<Arrivals>,

    /// Most questions without an answer in an open loop; what is due beyond that is not asked, and the run void
    #[arg(long, value_name = "NUMBER", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    max_in_flight: u32,

    /// Connections; with h1 in a closed loop one for each question in flight
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,

    /// Generator threads
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,

    /// How long to ask, after the warm-up [default: 10s without --count]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,

    /// How many questions to ask, after the warm-up
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,

    /// How long to ask before anything counts
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    warm_up: Duration,

    /// How long an answer may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("expected digits and one of us, ms, s")
}

/// Runs it, and prints what has come of it.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let plan = arguments.plan()?;
    let clock = Clock::system();
    let order = arguments.order(&clock)?;
    let origin = Origin::here(clock.now().as_i64());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (finished, peak_rss_bytes) = runtime.block_on(async {
        let mut stop = std::pin::pin!(stop_signal()?);
        let mut eyes = Eyes::open(&arguments.target).await?;
        let placement = Placement { processors: arguments.processors.clone() };
        if arguments.prime {
            prime(&plan, &order, placement.clone(), stop.as_mut()).await?;
        }
        let ahead = usize::try_from(arguments.sign_ahead)?;
        let finished = run_plan(&plan, &order, ahead, placement, &mut eyes, stop).await?;
        Ok::<_, Box<dyn Error>>((finished, eyes.peak_rss_bytes))
    })?;
    let mut result = Run::new(origin, arguments.settings(&order), &finished, arguments.lateness, peak_rss_bytes);
    result.summary.crossed = arguments.fail_if.iter().filter_map(|threshold| threshold.crossed_by(&result.summary)).collect();
    print!("{result}");
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&result)?;
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let code = match (result.summary.void.is_empty(), result.summary.crossed.is_empty()) {
        (false, _) => ExitCode::from(EXIT_VOID),
        (true, false) => ExitCode::from(EXIT_FAILED),
        (true, true) => ExitCode::SUCCESS,
    };
    write_one(arguments.html.as_deref(), "run", || Document::Run(Box::new(result)))?;
    Ok(code)
}

/// Asks about each repeated token once.
async fn prime(plan: &Plan, order: &Order, placement: Placement, stop: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
    let failed = arngate_loadtest::run::prime(plan, order, placement, stop).await?;
    if failed > 0 {
        eprintln!("warning: {failed} of {} repeated tokens were not let in before the run", order.stock.len());
    }
    Ok(())
}

impl Arguments {
    fn plan(&self) -> Result<Plan, Box<dyn Error>> {
        let LoadArguments { in_flight, max_in_flight, connections, threads, duration, count, warm_up, timeout, .. } = self.load;
        let load = match &self.load.rate {
            Some(arrivals) => Load::Open { arrivals: arrivals.clone(), in_flight_most: max_in_flight },
            None => Load::Closed { in_flight },
        };
        let duration = if count.is_none() { Some(duration.unwrap_or(Duration::from_secs(10))) } else { duration };
        if self.mix.has(Kind::Repeated) && warm_up + duration.unwrap_or_default() > REPEATED_MOST {
            return Err("repeated tokens are signed before the run and good for 15 minutes: it may take 12 at most".into());
        }
        if self.mix.has(Kind::FreshNewIdentity) && self.cast.new_identities == 0 {
            return Err("fresh-new-identity needs --new-identities, which the target's STS knows".into());
        }
        let target = self.target.target(self.target.http)?;
        if !target.is_loopback() && !self.target.i_own_this_target {
            return Err(format!("{} is not on this machine; if it is yours, say --i-own-this-target", target.address).into());
        }
        Ok(Plan {
            target,
            connections,
            must_connect: true,
            threads,
            load,
            warm_up,
            limit: Limit { duration, count },
            timeout,
            seed: self.cast.seed,
        })
    }

    fn order(&self, clock: &Clock) -> Result<Order, Box<dyn Error>> {
        let cast = self.cast.cast();
        let mut form = Form::new(&self.cast.cluster_id, &self.cast.sts_host, self.api_version)?;
        form.always = self.expect_arn.as_ref().map(|arn| Arc::new(Needle::new(arn)));
        let tokens = if self.mix.has(Kind::Repeated) { usize::try_from(self.tokens)? } else { 0 };
        let stock = Stock::sign(&cast, &form, tokens, clock);
        let (mix, popularity, seed) = (self.mix.clone(), self.popularity, self.cast.seed);
        Ok(Order { cast, form, mix, popularity, stock, seed, clock: clock.clone() })
    }

    fn settings(&self, order: &Order) -> BTreeMap<String, String> {
        let load = &self.load;
        let mut settings = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
        set("http", self.target.http.name().into());
        set("mix", self.mix.to_string());
        set("popularity", self.popularity.to_string());
        set("tokens", order.stock.len().to_string());
        set("body-bytes", order.stock.body_bytes().to_string());
        set("shape", self.cast.shape.to_string());
        set("identities", self.cast.identities.to_string());
        set("mappings", self.cast.mappings.to_string());
        set("seed", self.cast.seed.to_string());
        set("api-version", self.api_version.name().into());
        set("connections", load.connections.to_string());
        set("threads", load.threads.to_string());
        set("warm-up", format!("{:?}", load.warm_up));
        match &load.rate {
            Some(arrivals) => set("rate", arrivals.to_string()),
            None => set("in-flight", load.in_flight.to_string()),
        }
        settings
    }
}

impl TargetArguments {
    fn target(&self, http: Http) -> Result<Target, Box<dyn Error>> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        match (&self.target, &self.ca, &self.kubeconfig) {
            (_, _, Some(path)) => {
                let Kubeconfig { server, ca_pem, client } = Kubeconfig::load(path)?;
                let client = client.as_ref().map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
                Ok(Target::new(&server, &ca_pem, client, http)?)
            }
            (Some(url), Some(ca), _) => Ok(Target::new(url, &read(ca)?, None, http)?),
            _ => Err("expected --target and --ca, or --kubeconfig".into()),
        }
    }
}

/// A line that is written over once a second; nothing where nobody looks.
struct Progress {
    shown: bool,
    visible: bool,
}

/// Looks at the target from outside, as far as it was told how.
struct Eyes {
    pid: Option<u32>,
    peak_rss_bytes: Option<u64>,
    scrape: Option<Scrape>,
    progress: Progress,
}

impl Eyes {
    /// Looks once, so that what cannot be seen is an error before the run.
    async fn open(arguments: &TargetArguments) -> Result<Self, Box<dyn Error>> {
        if let Some(pid) = arguments.pid.filter(|pid| Usage::of(*pid).is_none()) {
            return Err(format!("there is no process {pid} whose memory /proc tells").into());
        }
        let scrape = if arguments.count_sts_calls {
            let mut scrape = Scrape::new(arguments.target(Http::One)?);
            scrape.sts_calls().await?;
            Some(scrape)
        } else {
            None
        };
        let progress = Progress { shown: false, visible: std::io::stderr().is_terminal() };
        Ok(Self { pid: arguments.pid, peak_rss_bytes: None, scrape, progress })
    }
}

impl Observer for Eyes {
    async fn see(&mut self) -> Seen {
        let usage = self.pid.and_then(Usage::of);
        self.peak_rss_bytes = usage.map(|usage| usage.peak_rss_bytes).or(self.peak_rss_bytes);
        let sts_calls = match &mut self.scrape {
            // A target that is too busy to tell is one of which it is not known in this second.
            Some(scrape) => scrape.sts_calls().await.ok(),
            None => None,
        };
        Seen { sts_calls, rss_bytes: usage.map(|usage| usage.rss_bytes), cpu: usage.map(|usage| usage.cpu) }
    }

    fn second(&mut self, second: &Second) {
        self.progress.show(second);
    }
}

impl Progress {
    fn show(&mut self, second: &Second) {
        if !self.visible {
            return;
        }
        self.shown = true;
        let count: u64 = second.outcomes.iter().sum();
        let micros = |latency: Duration| Micros(latency.as_secs_f64() * 1e6);
        let rate = count as f64 / second.lasted.as_secs_f64().max(1e-9);
        let mut line = format!("{:>5.0} s  {rate:>8.0}/s  p50 {}  p99 {}", second.at.as_secs_f64(), micros(second.p50), micros(second.p99));
        for (outcome, count) in arngate_loadtest::outcome::Outcome::ALL.into_iter().zip(second.outcomes) {
            if count > 0 {
                line += &format!("  {} {count}", outcome.label());
            }
        }
        eprint!("\r\x1b[K{line}");
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
