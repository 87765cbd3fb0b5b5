//! The few shapes that the figures are made of.

use std::fmt::Write;

use super::escape;

/// Width of every figure, px.
pub(super) const WIDTH: f64 = 1_000.0;
/// Where the plot begins, px: names stand before it.
pub(super) const LEFT: f64 = 150.0;
/// Where it ends.
pub(super) const RIGHT: f64 = 985.0;

/// A figure that grows downwards.
pub(super) struct Figure {
    /// Behind everything else.
    ground: String,
    body: String,
    pub(super) height: f64,
    seconds: f64,
}

impl Figure {
    /// Returns an empty figure over so many seconds.
    pub(super) fn new(seconds: f64) -> Figure {
        Figure {
            ground: String::new(),
            body: String::new(),
            height: 0.0,
            seconds: seconds.max(1.0),
        }
    }

    /// Returns where a moment is, px.
    pub(super) fn x(&self, second: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (second / self.seconds).clamp(0.0, 1.0)
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str, title: &str) {
        let title = match title {
            "" => String::new(),
            text => format!("<title>{}</title>", escape(text)),
        };
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{fill}\">{title}</rect>"
        );
    }

    /// Draws behind everything, so faintly that all of it is seen.
    pub(super) fn shade(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str) {
        let _ = write!(
            self.ground,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{fill}\" fill-opacity=\"0.16\"/>"
        );
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        let text = escape(text);
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], stroke: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"1.6\"/>",
            points.join(" ")
        );
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), fill: &str, title: &str) {
        let title = escape(title);
        let _ = write!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\"><title>{title}</title></circle>"
        );
    }

    /// Draws the seconds below everything.
    pub(super) fn axis(&mut self) {
        let y = self.height + 14.0;
        let step = match self.seconds {
            all if all <= 20.0 => 2.0,
            all if all <= 70.0 => 5.0,
            _ => 30.0,
        };
        let mut second = 0.0;
        while second <= self.seconds {
            let x = self.x(second);
            self.line(&[(x, self.height), (x, self.height + 4.0)], "#9aa5b1");
            self.text((x, y), "middle", &format!("{second} s"));
            second += step;
        }
        self.height += 22.0;
    }

    /// Returns the element.
    pub(super) fn finish(self, label: &str) -> String {
        let (height, label) = (self.height + 4.0, escape(label));
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"{label}\">{}{}</svg>\n",
            self.ground, self.body
        )
    }
}
