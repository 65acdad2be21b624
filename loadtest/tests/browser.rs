//! Reports in a real browser: what is drawn, and whether it fits.
//!
//! Without a browser its tests are ignored, with the reason; `ARNGATE_REQUIRE=chromium` makes absence a failure. The browser is `chromium` in
//! `PATH`, or what `ARNGATE_CHROMIUM` names. It is measured by a script in a copy of the page: the page itself has none, and forbids it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use arngate_loadtest::report::Report;
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

const ABSENCE: &str = "no chromium";

const RUN: &str = include_str!("report/run.json");

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let browser = browser();
    let trials = [
        ("each_plot_of_a_run_has_data_and_fits", each_plot_has_data_and_fits as fn(&Path) -> Result<(), Failed>),
        ("two_runs_have_a_line_each_in_hues_of_their_own", two_runs_have_a_line_each),
        ("colours_follow_the_scheme", colours_follow_the_scheme),
        ("the_page_itself_runs_no_script", the_page_itself_runs_no_script),
    ];
    let is_required = env::var("ARNGATE_REQUIRE").is_ok_and(|list| list.split(',').any(|required| required.trim() == "chromium"));
    let trials = trials.map(|(name, test)| {
        let (is_absent, browser) = (browser.is_none(), browser.clone());
        let trial = Trial::test(name, move || browser.map_or_else(|| Err(ABSENCE.into()), |browser| test(&browser)));
        let trial = if is_absent { trial.with_kind(ABSENCE) } else { trial };
        trial.with_ignored_flag(is_absent && !is_required)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn browser() -> Option<PathBuf> {
    match env::var_os("ARNGATE_CHROMIUM").filter(|path| !path.is_empty()) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("chromium")).find(|program| program.is_file()),
    }
}

/// Writes what it finds into the page, as one element of JSON: every plot with all that is drawn in it, and how wide the page is.
const MEASURE: &str = r#"<script>
addEventListener("load", () => {
  const hue = element => { const style = getComputedStyle(element); return style.stroke === "none" ? style.fill : style.stroke; };
  const plots = [...document.querySelectorAll("svg.plot")].map(svg => {
    const frame = svg.viewBox.baseVal;
    const lines = [...svg.querySelectorAll(".line")].map(line => {
      const box = line.getBBox();
      const inside = box.x >= 0 && box.y >= 0 && box.x + box.width <= frame.width && box.y + box.height <= frame.height;
      return { length: line.getTotalLength(), inside, hue: hue(line) };
    });
    const elements = [...svg.querySelectorAll("text")], texts = elements.map(text => text.getBoundingClientRect());
    const overlap = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    const overlaps = texts.some((a, at) => texts.slice(at + 1).some(b => overlap(a, b)));
    const size = svg.getBoundingClientRect();
    // Up to the edges of the figure around the plot.
    const edges = svg.parentElement.getBoundingClientRect();
    const spilt = texts.map((text, at) => [text, elements[at].textContent]).filter(([text]) =>
      text.left < edges.left || text.right > edges.right || text.top < size.top - 8 || text.bottom > edges.bottom).map(([_, text]) => text);
    return {
      title: svg.querySelector("title").textContent, named: svg.parentElement.querySelectorAll(".legend li").length, lines, overlaps, spilt,
      width: size.width, textHeight: Math.min(...texts.map(text => text.height)),
    };
  });
  const found = {
    plots, ground: getComputedStyle(document.body).backgroundColor,
    width: document.documentElement.clientWidth, needed: document.documentElement.scrollWidth,
  };
  const element = parent.document.createElement("pre");
  element.id = "found";
  element.textContent = JSON.stringify(found);
  parent.document.body.append(element);
});
</script>"#;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    plots: Vec<Plot>,
    /// Colour behind everything.
    ground: String,
    /// Of the window, in pixels.
    width: f64,
    /// Of the page, in pixels.
    needed: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plot {
    title: String,
    named: usize,
    lines: Vec<Line>,
    overlaps: bool,
    /// Texts that are not within its figure.
    spilt: Vec<String>,
    width: f64,
    text_height: f64,
}

#[derive(Debug, Deserialize)]
struct Line {
    length: f64,
    inside: bool,
    hue: String,
}

/// Opens a page in a frame of that width (a window cannot be as narrow as a phone), and tells what is there.
fn open(browser: &Path, page: &str, width: u32, dark: bool) -> Result<Found, Failed> {
    let (head, tail) = page.split_once("</head>").ok_or("no head")?;
    let policy = head.find("<meta http-equiv").ok_or("no policy")?;
    let policy_end = policy + head[policy..].find('>').ok_or("no end of the policy")? + 1;
    let measured = format!("{}{}{MEASURE}</head>{tail}", &head[..policy], &head[policy_end..]);
    let dom = dump(browser, &measured, width, dark)?;
    let found = dom.split_once(r#"<pre id="found">"#).and_then(|(_, rest)| rest.split_once("</pre>"));
    let (found, _) = found.ok_or_else(|| format!("nothing was measured: {}", dom.chars().take(2000).collect::<String>()))?;
    Ok(serde_json::from_str(&found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))?)
}

/// The document around the frame, after all has been loaded.
fn dump(browser: &Path, page: &str, width: u32, dark: bool) -> Result<String, Failed> {
    let folder = tempfile::tempdir()?;
    let framed = page.replace('&', "&amp;").replace('"', "&quot;");
    let mut outer = String::from("<!doctype html><meta charset=utf-8><body style=margin:0>");
    write!(outer, r#"<iframe style="border:0" width="{width}" height="900" srcdoc="{framed}"></iframe>"#)?;
    let file = folder.path().join("outer.html");
    fs::write(&file, outer)?;
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
        .args(["--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", browser.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn page(names: &[&str]) -> Result<String, Failed> {
    let mut report = Report::new();
    for (index, name) in names.iter().enumerate() {
        let mut run: serde_json::Value = serde_json::from_str(RUN)?;
        // Not the same lines in the same places.
        run["seconds"].as_array_mut().ok_or("no seconds")?.truncate(20 - 5 * index);
        report.add(*name, run.to_string().parse()?);
    }
    Ok(report.to_html())
}

fn each_plot_has_data_and_fits(browser: &Path) -> Result<(), Failed> {
    let page = page(&["run"])?;
    assert!(!page.contains("NaN"));
    for (width, dark) in [(390, false), (390, true), (1280, false), (1280, true)] {
        let found = open(browser, &page, width, dark)?;
        assert_eq!((found.plots.len(), found.width), (9, f64::from(width)));
        assert!(found.needed <= found.width, "the page is wider than its window: {found:?}");
        for plot in &found.plots {
            assert!(!plot.lines.is_empty() && plot.lines.len() >= plot.named, "{plot:?}");
            assert!(plot.lines.iter().all(|line| line.length > 10.0 && line.inside), "{plot:?}");
            assert!(!plot.overlaps && plot.spilt.is_empty(), "texts of {} at {width}: {plot:?}", plot.title);
            assert!(plot.width > 330.0 && plot.text_height >= 11.0, "{} is too small to be read at {width}: {plot:?}", plot.title);
        }
    }
    Ok(())
}

fn two_runs_have_a_line_each(browser: &Path) -> Result<(), Failed> {
    let found = open(browser, &page(&["before", "after"])?, 1280, false)?;
    for title in ["Latency by percentile", "Answers over time", "Memory of the target over time"] {
        let plot = found.plots.iter().find(|plot| plot.title == title).ok_or(title)?;
        assert_eq!((plot.named, plot.lines.len()), (2, 2), "{plot:?}");
        assert_ne!(plot.lines[0].hue, plot.lines[1].hue);
    }
    Ok(())
}

fn colours_follow_the_scheme(browser: &Path) -> Result<(), Failed> {
    let page = page(&["run"])?;
    let (light, dark) = (open(browser, &page, 1280, false)?, open(browser, &page, 1280, true)?);
    assert_eq!((light.ground.as_str(), dark.ground.as_str()), ("rgb(255, 255, 255)", "rgb(20, 23, 27)"));
    for (light, dark) in light.plots.iter().zip(&dark.plots) {
        for (in_light, in_dark) in light.lines.iter().zip(&dark.lines) {
            assert_ne!(in_light.hue, in_dark.hue, "{}", light.title);
            // Against what is behind a plot in either scheme: 3:1 is what WCAG 2.2 asks of graphics (1.4.11).
            let (on_light, on_dark) = (contrast(&in_light.hue, "rgb(245, 246, 248)")?, contrast(&in_dark.hue, "rgb(29, 33, 38)")?);
            assert!(on_light >= 3.0 && on_dark >= 3.0, "{} {on_light:.2}, {} {on_dark:.2}", in_light.hue, in_dark.hue);
        }
    }
    Ok(())
}

fn contrast(one: &str, other: &str) -> Result<f64, Failed> {
    let luminance = |color: &str| -> Result<f64, Failed> {
        let parts = color.strip_prefix("rgb(").and_then(|color| color.strip_suffix(')')).ok_or_else(|| format!("no colour: {color}"))?;
        let parts = parts.split(", ").map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
        let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        Ok(parts.iter().zip([0.2126, 0.7152, 0.0722]).map(|(part, weight)| linear(part / 255.0) * weight).sum())
    };
    let (one, other) = (luminance(one)?, luminance(other)?);
    Ok((one.max(other) + 0.05) / (one.min(other) + 0.05))
}

fn the_page_itself_runs_no_script(browser: &Path) -> Result<(), Failed> {
    // Even if there were a hole in how texts are escaped, the policy of the page stands before it.
    let page = page(&["run"])?.replacen("</head>", &format!("{MEASURE}</head>"), 1);
    let dom = dump(browser, &page, 1280, false)?;
    assert!(dom.contains("iframe") && !dom.contains("id=\"found\""), "{dom}");
    Ok(())
}
