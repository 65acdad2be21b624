//! `arngate-loadtest scenario` and `compare`: self-contained runs.

use std::error::Error;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use arngate_loadtest::mix::{Kind, Mix};
use arngate_loadtest::report::Document;
use arngate_loadtest::result::Micros;
use arngate_loadtest::scenario::catalogue;
use arngate_loadtest::scenario::compare::{ROUND, compare};
use arngate_loadtest::scenario::search::Search;
use arngate_loadtest::scenario::{Scenario, Stage};
use arngate_loadtest::subject::Subject;
use clap::Args;
use serde::Serialize;

use super::report::write_one;
use super::run::{EXIT_FAILED, EXIT_VOID, duration};
use super::stop_signal;

/// Name of the scenario that is a search.
const SEARCH: &str = "search";

/// Start a fake STS, certificates and a target, put load on it as a scenario says, print a table, and end all of it.
///
/// Without a name it lists the scenarios. Exit code 4: a rule of the scenario was broken; 3: a phase is void.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Which scenario
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// What to start: arngate=PATH, reference=PATH (aws-iam-authenticator), ceiling, or command=LINE with {config}, {state} and {port}
    #[arg(long, value_name = "SUBJECT", default_value = "ceiling")]
    target: Subject,

    /// How long each timed phase is
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    duration: Duration,

    #[command(flatten)]
    common: Common,

    /// Of `search`: the longest p99 that is good
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = duration)]
    p99: Duration,

    /// Of `search`: rates between which the answer lies
    #[arg(long, value_name = "FROM-TO", default_value = "100-100000", value_parser = rates)]
    rates: (f64, f64),
}

/// Play a scenario with several targets, taking turns in short rounds, and print their ratios.
///
/// Ratios are of the rates of one round, so that what disturbs the machine disturbs all; shown are the median and the extremes. Exit code 4: the
/// first has broken a rule of the scenario; 3: a phase is void.
#[derive(Args, Debug)]
pub(crate) struct CompareArguments {
    /// What to compare, the first being what the others are compared with: arngate=PATH, reference=PATH, ceiling or command=LINE
    #[arg(value_name = "SUBJECT", required = true, num_args = 1..)]
    subjects: Vec<Subject>,

    /// Which scenario
    #[arg(long, value_name = "NAME", default_value = "hit")]
    scenario: String,

    /// How many rounds
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How long each timed phase is in each round [default: 3s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,

    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// What keys and chance are made from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Worker threads of the target [default: the scenario's, as a rule one]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// A further line of the target's configuration under `server:` (repeatable), as in 'accessLog: none'
    #[arg(long, value_name = "YAML")]
    set: Vec<String>,

    /// Write all of the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a report with plots, as one HTML page; `search` has none
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Common {
    fn find(&self, name: &str, duration: Duration) -> Result<Scenario, String> {
        let scenarios = catalogue::all(duration);
        let names: Vec<_> = scenarios.iter().map(|scenario| scenario.name).collect();
        let expected = format!("there is no scenario {name}; expected one of {}, {SEARCH}", names.join(", "));
        let mut scenario = scenarios.into_iter().find(|scenario| scenario.name == name).ok_or(expected)?;
        if let Some(threads) = self.threads {
            scenario.scenery.threads = threads;
        }
        scenario.scenery.settings.extend(self.set.iter().map(|line| format!("  {line}\n")));
        Ok(scenario)
    }
}

fn rates(text: &str) -> Result<(f64, f64), &'static str> {
    let parse = |text: &str| text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 1.0);
    let rates = text.split_once('-').and_then(|(from, to)| Some((parse(from)?, parse(to)?)));
    rates.filter(|(from, to)| from < to).ok_or("expected two rates, as in 100-100000")
}

/// Plays a scenario.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let Some(name) = &arguments.name else {
        for scenario in catalogue::all(arguments.duration) {
            println!("{:<18} {}", scenario.name, scenario.about);
        }
        println!("{SEARCH:<18} the highest rate of warm tokens whose p99 stays under --p99, found by halving");
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        if name == SEARCH {
            return search(&arguments, stop).await;
        }
        let scenario = arguments.common.find(name, arguments.duration)?;
        let mut stop = std::pin::pin!(stop);
        let mut stage = Stage::set_unless(&scenario, &arguments.target, arguments.common.seed, stop.as_mut()).await?;
        for phase in &scenario.phases {
            progress(format!("{}: {}", scenario.name, phase.name));
            if stage.play(phase, stop.as_mut()).await? {
                break;
            }
        }
        progress(String::new());
        let played = stage.strike().await;
        print!("{played}");
        write(arguments.common.json.as_deref(), &played)?;
        write_one(arguments.common.html.as_deref(), &played.scenario, || Document::Played(Box::new(played.clone())))?;
        let void = played.phases.iter().any(|phase| !phase.run.summary.void.is_empty());
        Ok(match (played.checks.iter().all(|check| check.holds), void) {
            (false, _) => ExitCode::from(EXIT_FAILED),
            (true, true) => ExitCode::from(EXIT_VOID),
            (true, false) => ExitCode::SUCCESS,
        })
    })
}

async fn search(arguments: &Arguments, stop: impl Future<Output = ()>) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = arguments.common.find("hit", arguments.duration)?;
    let phase = scenario.phases.first().ok_or("the scenario has no phase")?.clone();
    debug_assert_eq!(phase.mix, Mix::only(Kind::Repeated));
    let search = Search { p99_most: arguments.p99, rates: arguments.rates, precision: 0.05 };
    let tries = search
        .run(&scenario, &phase, &arguments.target, arguments.common.seed, stop, |one| {
            println!("{:>8.0}/s  p99 {:>9}  {}", one.rate_per_sec, Micros(one.p99_us).to_string(), one.failed.as_deref().unwrap_or("good"));
        })
        .await?;
    let best = tries.iter().filter(|one| one.failed.is_none()).map(|one| one.rate_per_sec).fold(0.0, f64::max);
    let is_none = best == 0.0 && !tries.is_empty();
    if is_none {
        let least = tries.iter().map(|one| one.rate_per_sec).fold(f64::INFINITY, f64::min);
        println!(
            "FAILED {} does not keep its p99 under {:?} at {least:.0} questions a second, nor was another rate good",
            arguments.target, arguments.p99
        );
    } else {
        println!("{} keeps its p99 under {:?} at {best:.0} questions a second", arguments.target, arguments.p99);
    }
    if tries.iter().any(|one| one.rate_per_sec > best && one.failed.as_deref().is_some_and(|failed| failed.starts_with("void"))) {
        println!("note: above that the generator was late, so that the target may be able to do more");
    }
    write(arguments.common.json.as_deref(), &tries)?;
    Ok(if is_none { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

/// Plays a scenario with several targets.
pub(crate) fn run_compare(arguments: CompareArguments) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = arguments.common.find(&arguments.scenario, arguments.duration.unwrap_or(ROUND))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let comparison = runtime.block_on(async {
        let stop = stop_signal()?;
        let compared = compare(&scenario, &arguments.subjects, arguments.rounds, arguments.common.seed, stop, progress).await?;
        Ok::<_, Box<dyn Error>>(compared)
    })?;
    progress(String::new());
    print!("{comparison}");
    write(arguments.common.json.as_deref(), &comparison)?;
    write_one(arguments.common.html.as_deref(), &comparison.scenario, || Document::Comparison(Box::new(comparison.clone())))?;
    Ok(match (comparison.has_failed(), comparison.is_void()) {
        (true, _) => ExitCode::from(EXIT_FAILED),
        (false, true) => ExitCode::from(EXIT_VOID),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// A line that the next one is written over; nothing where nobody looks.
fn progress(line: String) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    }
}

fn write(path: Option<&Path>, value: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value)?;
    Ok(std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}
