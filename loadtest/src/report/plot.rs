//! Plots: lines of figures over two axes, as a `<figure>` with its legend.

use std::fmt::Write as _;

use plotters::chart::ChartBuilder;
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::{Circle, PathElement};
use plotters::style::{Color as _, IntoFont as _};

use super::axis::Axis;
use super::escaped::Escaped;
use super::svg::{Canvas, Ink, UNITS};

/// Size of a drawing in pixels of a screen that shows it as it is; a phone shows it a little smaller, so that it needs no larger text.
const SIZE: (u32, u32) = (440, 270);

/// Most points of a line that say their figures when pointed at: with more, there is no telling them apart.
const SPEAKING_MOST: usize = 150;

/// A line of figures.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// What it shows; lines of one name are one entry of the legend.
    pub(super) name: String,
    pub(super) ink: Ink,
    /// Figures on both axes; none where there is a gap.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Whether the title says all, where there is one line.
    pub(super) is_plain: bool,
}

/// A point that can be drawn: its figures, and where they stand on their axes.
#[derive(Clone, Copy, Debug)]
struct Point {
    figures: (f64, f64),
    places: (f64, f64),
}

impl Plot {
    /// The figure, if there is something to show; `id` is a name that no other one of the page has.
    pub(super) fn figure(&self, id: &str) -> Option<String> {
        let lines: Vec<(&Line, Vec<Vec<Point>>)> = self.lines.iter().map(|line| (line, self.stretches(line))).collect();
        if lines.iter().all(|(_, stretches)| stretches.is_empty()) {
            return None;
        }
        let (width, height) = (SIZE.0 * UNITS, SIZE.1 * UNITS);
        let mut figure = format!("<figure><figcaption>{} <span>{}</span></figcaption>\n", Escaped(&self.title), self.y.title());
        if !self.is_plain || lines.len() > 1 {
            self.legend(&mut figure);
        }
        let _ = writeln!(
            figure,
            "<svg class=\"plot\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
            Escaped(&self.title),
            Escaped(&self.description(&lines)),
        );
        if let Err(error) = self.draw(&lines, &mut figure) {
            let _ = write!(figure, r#"<text x="200" y="400" font-size="130">cannot be drawn: {}</text>"#, Escaped(&error));
        }
        figure.push_str("\n</svg></figure>\n");
        Some(figure)
    }

    fn legend(&self, figure: &mut String) {
        figure.push_str("<ul class=\"legend\">");
        let mut named: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !named.contains(&line.name.as_str()) {
                named.push(&line.name);
                let _ = write!(
                    figure,
                    r#"<li><svg class="sample" viewBox="0 0 24 8" aria-hidden="true"><path class="{}" d="M0 4L24 4"/></svg>{}</li>"#,
                    line.ink.class(),
                    Escaped(&line.name)
                );
            }
        }
        figure.push_str("</ul>\n");
    }

    /// What can be drawn of a line, between its gaps.
    fn stretches(&self, line: &Line) -> Vec<Vec<Point>> {
        let point = |figures: (f64, f64)| Some(Point { figures, places: (self.x.place(figures.0)?, self.y.place(figures.1)?) });
        let points: Vec<Option<Point>> = line.points.iter().map(|figures| figures.and_then(point)).collect();
        points
            .split(Option::is_none)
            .filter(|stretch| !stretch.is_empty())
            .map(|stretch| stretch.iter().flatten().copied().collect())
            .collect()
    }

    /// What those who cannot see it should know.
    fn description(&self, lines: &[(&Line, Vec<Vec<Point>>)]) -> String {
        let mut description = format!("Upwards: {}. To the right: {}.", self.y.title(), self.x.title());
        for (line, stretches) in lines {
            let figures = || stretches.iter().flatten().map(|point| point.figures.1);
            let (least, most) = figures().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| (least.min(one), most.max(one)));
            if least <= most {
                let _ = write!(description, " {}: {} to {}.", line.name, self.y.say(least), self.y.say(most));
            }
        }
        description
    }

    fn draw(&self, lines: &[(&Line, Vec<Vec<Point>>)], elements: &mut String) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let places = || lines.iter().flat_map(|(_, stretches)| stretches.iter().flatten().map(|point| point.places));
        let (x, y) = (self.x.shown(places().map(|place| place.0)), self.y.shown(places().map(|place| place.1)));
        let mut speaking = String::new();
        {
            let canvas = Canvas { elements, size: (SIZE.0 * UNITS, SIZE.1 * UNITS) };
            let area = canvas.into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin_top(8 * UNITS)
                .margin_right(22 * UNITS)
                .x_label_area_size(45 * UNITS)
                .y_label_area_size(64 * UNITS)
                .build_cartesian_2d(x, y)
                .map_err(|error| said(&error))?;
            let text = |pixels: u32| ("sans-serif", pixels * UNITS).into_font().color(&Ink::Label.color());
            chart
                .configure_mesh()
                .axis_style(Ink::Axis.color())
                .bold_line_style(Ink::Grid.color())
                .light_line_style(Ink::Grid.color())
                // Longer than they need be, so that the lowest label on the left and the first one below keep off each other.
                .set_all_tick_mark_size(7 * UNITS)
                .label_style(text(14))
                .axis_desc_style(text(14))
                .x_label_formatter(&|place| self.x.label(*place))
                .y_label_formatter(&|place| self.y.label(*place))
                .x_desc(self.x.title())
                .draw()
                .map_err(|error| said(&error))?;
            for (line, stretches) in lines {
                let color = line.ink.color();
                for stretch in stretches {
                    match stretch.as_slice() {
                        // A path of one point is nothing to see.
                        [point] => chart.draw_series([Circle::new(point.places, 3 * UNITS, color.filled())]).map(drop),
                        points => {
                            let places: Vec<_> = points.iter().map(|point| point.places).collect();
                            chart.draw_series([PathElement::new(places, color.stroke_width(2))]).map(drop)
                        }
                    }
                    .map_err(|error| said(&error))?;
                }
                if stretches.iter().map(Vec::len).sum::<usize>() <= SPEAKING_MOST {
                    for point in stretches.iter().flatten() {
                        let (left, top) = chart.backend_coord(&point.places);
                        let (x, y) = (self.x.say(point.figures.0), self.y.say(point.figures.1));
                        let (name, radius) = (Escaped(&line.name), 5 * UNITS);
                        let _ = write!(
                            speaking,
                            r#"<circle class="speaking" cx="{left}" cy="{top}" r="{radius}"><title>{name}: {y} at {x}</title></circle>"#
                        );
                    }
                }
            }
        }
        elements.push_str(&speaking);
        Ok(())
    }
}
