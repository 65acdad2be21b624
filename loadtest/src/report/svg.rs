//! Where plotters draws to: SVG elements with classes instead of colours, so that the page's style sheet decides what they look like.
//!
//! plotters has colours only, so an [`Ink`] goes in as a colour and comes out as a class.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters::style::RGBColor;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform};

use super::escaped::Escaped;

/// Units of the drawing for one pixel of a screen: plotters knows whole units only, and a line in whole pixels has steps.
pub(super) const UNITS: u32 = 10;

/// What something is drawn with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ink {
    Axis,
    Grid,
    /// One of the hues of the style sheet, from 0.
    Hue(u8),
    /// The same, dashed.
    HueDashed(u8),
    Label,
}

impl Ink {
    pub(super) const fn color(self) -> RGBColor {
        match self {
            Self::Axis => RGBColor(1, 0, 0),
            Self::Grid => RGBColor(2, 0, 0),
            Self::Hue(hue) => RGBColor(3, hue, 0),
            Self::HueDashed(hue) => RGBColor(4, hue, 0),
            Self::Label => RGBColor(5, 0, 0),
        }
    }

    const fn of(color: BackendColor) -> Self {
        match color.rgb {
            (1, _, _) => Self::Axis,
            (2, _, _) => Self::Grid,
            (3, hue, _) => Self::Hue(hue),
            (4, hue, _) => Self::HueDashed(hue),
            _ => Self::Label,
        }
    }

    /// Its classes.
    pub(super) fn class(self) -> String {
        match self {
            Self::Axis => "axis".into(),
            Self::Grid => "grid".into(),
            Self::Hue(hue) => format!("line h{hue}"),
            Self::HueDashed(hue) => format!("line h{hue} dashed"),
            Self::Label => "label".into(),
        }
    }
}

/// A drawing of so many units, whose elements are appended to a text.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    pub(super) elements: &'a mut String,
    pub(super) size: (u32, u32),
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Canvas<'_> {
    fn path(&mut self, points: impl IntoIterator<Item = BackendCoord>, color: BackendColor, closed: bool) -> Drawn {
        let _ = write!(self.elements, r#"<path class="{}" d=""#, Ink::of(color).class());
        for (index, (x, y)) in points.into_iter().enumerate() {
            let _ = write!(self.elements, "{}{x} {y}", if index == 0 { 'M' } else { 'L' });
        }
        self.elements.push_str(if closed { "Z\"/>" } else { "\"/>" });
        Ok(())
    }
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.path([(x, y), (x + 1, y)], color, false)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.path([from, to], style.color(), false)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, _: bool) -> Drawn {
        self.path([from, (to.0, from.1), to, (from.0, to.1)], style.color(), true)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.path(path, style.color(), false)
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, _: bool) -> Drawn {
        let _ = write!(self.elements, r#"<circle class="{}" cx="{x}" cy="{y}" r="{radius}"/>"#, Ink::of(style.color()).class());
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        self.path(corners, style.color(), true)
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        // In shares of the font's size: what is above the line of most letters, and half of it.
        let down = match style.anchor().v_pos {
            VPos::Top => 0.76,
            VPos::Center => 0.34,
            VPos::Bottom => -0.24,
        };
        let turned = match style.transform() {
            FontTransform::None => String::new(),
            FontTransform::Rotate90 => format!(r#" transform="rotate(90 {x} {y})""#),
            FontTransform::Rotate180 => format!(r#" transform="rotate(180 {x} {y})""#),
            FontTransform::Rotate270 => format!(r#" transform="rotate(270 {x} {y})""#),
        };
        let (class, size) = (Ink::of(style.color()).class(), style.size());
        let _ = write!(
            self.elements,
            r#"<text class="{class}" x="{x}" y="{y}" dy="{down}em" font-size="{size}" text-anchor="{anchor}"{turned}>{}</text>"#,
            Escaped(text)
        );
        Ok(())
    }
}
