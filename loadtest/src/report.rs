//! Reports: one HTML page of one or several results, with plots, that needs nothing but itself.
//!
//! The page has no script and loads nothing, and says so to the browser (`Content-Security-Policy`). What is pointed at says its figures by the
//! `<title>` of its element. Colours are in the style sheet alone, for light and for dark. The commands hand over what they have as
//! [`Document`]s; nothing is measured or judged here.

mod axis;
mod document;
mod escaped;
mod page;
mod plot;
mod section;
mod svg;

pub use self::document::{Document, DocumentError};

/// A page of results.
///
/// ```
/// use arngate_loadtest::report::Report;
///
/// # let json = include_str!("../tests/report/run.json");
/// let mut report = Report::new();
/// report.add("tonight", json.parse()?);
/// assert!(report.to_html().starts_with("<!doctype html>"));
/// # Ok::<_, arngate_loadtest::report::DocumentError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    documents: Vec<(String, Document)>,
}

impl Report {
    /// One without results.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a result in, with what it is called; runs are shown side by side.
    pub fn add(&mut self, name: impl Into<String>, document: Document) {
        self.documents.push((name.into(), document));
    }

    /// The page.
    #[must_use]
    pub fn to_html(&self) -> String {
        page::html(&section::all(&self.documents))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RUN: &str = include_str!("../tests/report/run.json");

    /// A page of the run, changed so.
    fn page(change: impl FnOnce(&mut Value)) -> String {
        let mut value: Value = serde_json::from_str(RUN).unwrap();
        change(&mut value);
        let mut report = Report::new();
        report.add("run", value.to_string().parse().unwrap());
        report.to_html()
    }

    /// The tags of a page that tell its shape, and the texts of its headings.
    fn structure(page: &str) -> String {
        let body = page.split_once("<body>").unwrap().1;
        let mut lines = Vec::new();
        for tag in body.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').unwrap();
            match tag.split(' ').next().unwrap() {
                "h1" | "h2" | "h3" | "figcaption" | "desc" | "dt" | "summary" | "pre" => {
                    lines.push(format!("{}: {text}", tag.split(' ').next().unwrap()));
                }
                "section" | "table" | "ul" => lines.push(tag.into()),
                "li" if !text.is_empty() => lines.push(format!("li: {text}")),
                _ => {}
            }
        }
        lines.join("\n")
    }

    fn figures(page: &str) -> Vec<&str> {
        page.split("<figcaption>").skip(1).map(|figure| figure.split_once("</figure>").unwrap().0).collect()
    }

    /// All numbers of the drawings are numbers.
    fn assert_drawable(page: &str) {
        assert!(!page.contains("NaN") && !page.contains(">inf") && !page.contains(" inf") && !page.contains("-2147483648"), "{page}");
        assert_eq!(page.matches("<figure>").count(), page.matches("</figure>").count());
    }

    #[test]
    fn a_page_has_its_parts_in_order() {
        insta::assert_snapshot!(structure(&page(|_| {})));
    }

    #[test]
    fn a_plot_has_a_line_for_each_of_its_entries() {
        let page = page(|_| {});
        assert_drawable(&page);
        assert_eq!(figures(&page).len(), 9);
        for figure in figures(&page) {
            let plot = figure.split_once("<svg class=\"plot\"").unwrap().1;
            let drawn = plot.matches("<path class=\"line").count() + plot.matches("<circle class=\"line").count();
            assert!(drawn >= figure.matches("<li>").count().max(1), "{figure}");
        }
    }

    #[test]
    fn nothing_from_outside_is_taken_for_html() {
        const EVIL: &str = "<script>alert(\"1\")</script>'&\u{202e}";
        let page = page(|run| {
            run["summary"]["reasons"][0]["reason"] = json!(EVIL);
            run["summary"]["reasons"][0]["outcome"] = json!(EVIL);
            run["summary"]["void"] = json!([EVIL]);
            run["summary"]["notes"] = json!([EVIL]);
            run["summary"]["crossed"] = json!([EVIL]);
            run["settings"][EVIL] = json!(EVIL);
            for field in ["commit", "processor", "system", "version"] {
                run["origin"][field] = json!(EVIL);
            }
            run["origin"]["command"] = json!(["arngate-loadtest", EVIL]);
        });
        assert!(!page.contains("<script") && !page.contains("\u{202e}"), "{page}");
        let escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39;&amp;\u{fffd}";
        // Eleven as they are; in the command a quote of the shell stands between.
        assert_eq!(page.matches(escaped).count(), 11, "{page}");
        assert!(!page.contains("&amp;lt;") && !page.contains("&amp;amp;"), "escaped twice: {page}");

        let mut report = Report::new();
        report.add(EVIL, RUN.parse().unwrap());
        report.add("other", RUN.parse().unwrap());
        let page = report.to_html();
        // In legends, titles of plots, descriptions and what is pointed at.
        assert!(!page.contains("<script") && page.contains(&format!("Outcomes over time: {escaped}")), "{page}");
        assert_eq!(page.matches("<section").count(), 1);
    }

    #[test]
    fn a_page_needs_nothing_but_itself() {
        let page = page(|_| {});
        assert!(page.contains(r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"#));
        for loading in ["<script", "src=", "href=", "url(", "@import", "<link", "<img"] {
            assert!(!page.contains(loading), "{loading}");
        }
    }

    #[test]
    fn an_empty_run_has_no_plots_and_says_why() {
        let page = page(|run| {
            let zeros = json!({
                "count": 0, "minUs": 0.0, "meanUs": 0.0, "p50Us": 0.0, "p90Us": 0.0, "p95Us": 0.0, "p99Us": 0.0, "p999Us": 0.0, "maxUs": 0.0, "curve": [],
            });
            run["seconds"] = json!([]);
            run["settings"] = json!({});
            let summary = run["summary"].as_object_mut().unwrap();
            for (field, value) in [("completed", json!(0)), ("elapsedSecs", json!(0.0)), ("ratePerSec", json!(0.0)), ("latency", zeros)] {
                summary.insert(field.into(), value);
            }
            for (field, value) in [("lateness", json!(null)), ("stsCalls", json!(null)), ("process", json!(null)), ("crossed", json!([]))] {
                summary.insert(field.into(), value);
            }
            summary.insert("outcomes".into(), json!({}));
            summary.insert("reasons".into(), json!([]));
            summary.insert("latencyByOutcome".into(), json!({}));
            summary.insert("void".into(), json!(["nothing was answered"]));
        });
        assert_drawable(&page);
        insta::assert_snapshot!(structure(&page));
        assert!(page.contains("There is nothing to plot") && !page.contains("<figure>"), "{page}");
        assert!(Report::new().to_html().contains("There are no results."));
    }

    #[test]
    fn a_void_run_says_so_before_any_figure() {
        let page = page(|run| run["summary"]["void"] = json!(["the generator was late"]));
        let (void, figures) = (page.find("VOID: the generator was late").unwrap(), page.find("Summary").unwrap());
        assert!(void < figures && !page.contains("not void"), "{page}");
        assert!(page.find("FAILED: p99&gt;5ms").unwrap() < figures);
    }

    #[test]
    fn one_second_is_drawn_as_points() {
        let page = page(|run| {
            run["seconds"].as_array_mut().unwrap().truncate(1);
        });
        assert_drawable(&page);
        for figure in figures(&page).into_iter().filter(|figure| figure.contains("since the end of the warm-up</text>")) {
            let plot = figure.split_once("<svg class=\"plot\"").unwrap().1;
            assert!(plot.contains("<circle class=\"line") && !plot.contains("<path class=\"line"), "{figure}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_plotted() {
        let page = page(|run| {
            for second in run["seconds"].as_array_mut().unwrap() {
                second["stsCalls"] = json!(null);
                second["rssBytes"] = json!(null);
                second["cpus"] = json!(null);
            }
            run["summary"]["lateness"] = json!(null);
        });
        assert_eq!(figures(&page).len(), 5);
        assert!(!page.contains("Calls of STS over") && !page.contains("of the target over") && !page.contains("How late"), "{page}");
    }

    #[test]
    fn a_second_without_answers_is_a_gap_in_latency_and_none_in_the_rate() {
        let page = page(|run| {
            run["seconds"][9]["outcomes"] = json!({});
            run["seconds"][9]["ratePerSec"] = json!(0.0);
            run["seconds"][9]["p50Us"] = json!(0.0);
            run["seconds"][9]["p99Us"] = json!(0.0);
        });
        assert_drawable(&page);
        let lines = |title: &str| {
            let figure = figures(&page).into_iter().find(|figure| figure.starts_with(title)).unwrap();
            figure.split_once("<svg class=\"plot\"").unwrap().1.matches("<path class=\"line").count()
        };
        assert_eq!((lines("Latency over time"), lines("Answers over time")), (4, 1));
    }

    #[test]
    fn figures_beyond_reason_do_not_break_a_drawing() {
        let page = page(|run| {
            run["seconds"][3]["ratePerSec"] = json!(1e300);
            run["seconds"][4]["p99Us"] = json!(1e300);
            run["seconds"][5]["cpus"] = json!(-1.0);
            run["seconds"][6]["atSecs"] = json!(-5.0);
            run["seconds"][7]["atSecs"] = json!(1e300);
            run["summary"]["latency"]["curve"] = json!([[0.0, 0.0], [50.0, 1e300], [250.0, 3.0], [99.0, 5.0]]);
        });
        assert_drawable(&page);
        assert_eq!(figures(&page).len(), 9);
        // The others are not pressed to the ground by it, and stand where they stood.
        let answers = figures(&page)[2];
        assert!(answers.contains(">6000</text>") && answers.contains(">20 s</text>"), "{answers}");
    }

    #[test]
    fn other_files_are_refused() {
        let said = |text: &str| text.parse::<Document>().unwrap_err().to_string();
        let other = RUN.replace(crate::result::SCHEMA, "arngate-loadtest/v2");
        let texts = ["", "[]", "{}", r#"{"schema":1}"#, r#"{"summary":{}}"#, other.as_str()];
        insta::assert_snapshot!(texts.map(said).join("\n"), @r#"
        not a result of this tool
        expected what --json of run, scenario (but of search) or compare has written
        expected what --json of run, scenario (but of search) or compare has written
        expected what --json of run, scenario (but of search) or compare has written
        not a result of this tool
        its schema is "arngate-loadtest/v2", and this tool knows arngate-loadtest/v1alpha1
        "#);
    }

    #[test]
    fn rounds_of_a_comparison_have_the_names_and_hues_of_their_subjects() {
        let run: Value = serde_json::from_str(RUN).unwrap();
        let played = json!({
            "schema": run["schema"], "scenario": "hit", "subject": "ceiling", "origin": run["origin"], "startedInMs": 5.0,
            "phases": [{ "name": "h2", "run": run }], "memory": null, "checks": [], "metrics": [], "notes": [],
        });
        let spread = json!({ "median": 1.0, "least": 1.0, "most": 1.0 });
        let row = json!({
            "subject": "ceiling", "ratePerSec": spread, "elapsedMs": spread, "p50Us": spread, "p99Us": spread, "ofFirst": spread,
            "ofCeiling": spread, "stsCalls": null, "peakRssBytes": null, "notAllowed": {},
        });
        let comparison = json!({
            "scenario": "hit", "subjects": ["ceiling", "ceiling"], "phases": [{ "name": "h2", "rows": [row, row] }],
            "played": [played, played, played], "stopped": true,
        });
        let mut report = Report::new();
        report.add("comparison", comparison.to_string().parse().unwrap());
        let page = report.to_html();
        assert_drawable(&page);
        for name in ["ceiling, round 1", "ceiling, round 2", "ceiling (2), round 1"] {
            assert!(page.contains(&format!("<th scope=\"col\">{name}</th>")), "{name}: {page}");
        }
        assert!(!page.contains("round 3") && !page.contains("(2), round 2"));
        let latency = figures(&page)[0];
        let plot = latency.split_once("<svg class=\"plot\"").unwrap().1;
        assert_eq!(latency.matches("<li>").count(), 2);
        assert_eq!((plot.matches("\"line h0\"").count(), plot.matches("\"line h1\"").count()), (2, 1));
    }
}
