//! One figure: lines with points over two axes of logarithms, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A line.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What is drawn.
pub(crate) struct Figure<'a> {
    pub(crate) title: &'a str,
    pub(crate) axis: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) lines: &'a [Line<'a>],
}

const COLORS: [RGBColor; 3] = [RGBColor(31, 90, 160), RGBColor(200, 80, 30), RGBColor(40, 140, 70)];

/// Draws the figure.
///
/// # Errors
/// What cannot be drawn or written.
pub(crate) fn draw(path: &Path, figure: &Figure<'_>) -> Result<()> {
    scheduler_sim::plot::font();
    let wrong = |error: &dyn std::fmt::Display| anyhow!("draw {}: {error}", path.display());
    let all = || figure.lines.iter().flat_map(|line| line.points.iter().copied());
    // Decades around what is there; a thousandth at least, since an axis of logarithms has no zero.
    let decades = |value: fn((f64, f64)) -> f64| {
        let least = all().map(value).fold(f64::INFINITY, f64::min).max(1e-3);
        let most = all().map(value).fold(1e-3, f64::max);
        let (low, high) = (least.log10().floor(), most.log10().ceil());
        10_f64.powf(low)..10_f64.powf(high.max(low + 1.0))
    };
    let (x, y) = (decades(|point| point.0), decades(|point| point.1));
    let low = y.start;
    let root = SVGBackend::new(path, (720, 440)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| wrong(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(figure.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x.log_scale(), y.log_scale())
        .map_err(|error| wrong(&error))?;
    chart
        .configure_mesh()
        .x_desc(figure.axis)
        .y_desc(figure.unit)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| if *value < 1.0 { format!("{value}") } else { format!("{value:.0}") })
        .light_line_style(RGBColor(235, 235, 235))
        .draw()
        .map_err(|error| wrong(&error))?;
    for (line, color) in figure.lines.iter().zip(COLORS) {
        let points: Vec<(f64, f64)> = line.points.iter().map(|(at, value)| (*at, value.max(low))).collect();
        let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots).map_err(|error| wrong(&error))?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))
            .map_err(|error| wrong(&error))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(|error| wrong(&error))?;
    root.present().map_err(|error| wrong(&error))
}
