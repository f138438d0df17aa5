//! What all figures share: size, colours, axes, legend, the two backends.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Once;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Where a figure is drawn.
pub(super) type Area<B> = DrawingArea<B, Shift>;
/// How drawing on a backend ends.
pub(super) type Outcome<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Something that can be drawn on any backend.
pub(super) trait Figure {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Outcome<B>;
}

/// Width and height, pixels.
pub(super) const SIZE: (u32, u32) = (1200, 640);

/// Colours that differ for those who see few, too. Source: M. Okabe, K. Ito, 2008.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// The colour of a run or job.
pub(super) fn color(place: usize) -> RGBColor {
    COLORS[place % COLORS.len()]
}

/// Seconds of a unit that suits a span, and its name.
pub(super) fn axis_of_time(span: f64) -> (f64, &'static str) {
    match span {
        span if span > 4.0 * 86_400.0 => (86_400.0, "days"),
        span if span > 4.0 * 3600.0 => (3600.0, "hours"),
        _ => (60.0, "minutes"),
    }
}

/// Makes the font that is carried along known to the library as `sans-serif`, once.
///
/// # Panics
/// Never: the font is one.
pub fn font() {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        let font = include_bytes!("Roboto-Regular.ttf");
        let registered = register_font("sans-serif", FontStyle::Normal, font);
        assert!(registered.is_ok(), "the font is one");
    });
}

/// Draws a figure as NAME.svg and NAME.png.
///
/// # Errors
/// What cannot be drawn or written.
pub(super) fn draw_both(folder: &Path, name: &str, figure: &impl Figure) -> Result<(), String> {
    font();
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    let wrong = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut text = String::new();
    let drawn = on(SVGBackend::with_string(&mut text, SIZE), figure);
    drawn.map_err(|error| wrong(&path("svg"), &error))?;
    std::fs::write(path("svg"), &text).map_err(|error| wrong(&path("svg"), &error))?;
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    let drawn = on(BitMapBackend::with_buffer(&mut pixels, SIZE), figure);
    drawn.map_err(|error| wrong(&path("png"), &error))?;
    write_png(&path("png"), &pixels).map_err(|error| wrong(&path("png"), &error))
}

/// The text of an SVG backend is complete once the backend is gone, which is when this returns.
fn on<B: DrawingBackend>(backend: B, figure: &impl Figure) -> Outcome<B> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    figure.draw(&area)
}

fn write_png(path: &Path, pixels: &[u8]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}

/// Grid, numbers and names of plain axes.
pub(super) fn mesh<B: DrawingBackend>(
    chart: &mut ChartContext<'_, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    x: &str,
    y: &str,
) -> Outcome<B> {
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_desc_style(("sans-serif", 20))
        .label_style(("sans-serif", 16))
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
}

/// The legend of a chart.
pub(super) fn legend<'a, B: DrawingBackend + 'a, C>(
    chart: &mut ChartContext<'a, B, C>,
    position: SeriesLabelPosition,
) -> Outcome<B>
where
    C: CoordTranslate,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .label_font(("sans-serif", 18))
        .draw()
}

/// The share of jobs up to a value, which stands on a logarithmic axis that begins with `least`.
pub(super) fn distribution<B: DrawingBackend>(
    area: &Area<B>,
    lines: &[(String, Vec<(f64, f64)>)],
    title: &str,
    unit: &str,
    least: f64,
) -> Outcome<B> {
    let ends = lines.iter().filter_map(|(_, points)| points.last()).map(|(value, _)| *value);
    let most = ends.fold(least * 10.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 28))
        .margin(16)
        .x_label_area_size(56)
        .y_label_area_size(84)
        .build_cartesian_2d((least..most).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc(unit)
        .y_desc("jobs up to that, %")
        .axis_desc_style(("sans-serif", 20))
        .label_style(("sans-serif", 16))
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    for (place, (run, points)) in lines.iter().enumerate() {
        let style = color(place).stroke_width(3);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(run)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    area.present()
}

/// A label without a fraction that says nothing: `12`, `0.1`, `2.5`.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!([12.0, 0.1, 2.5, 1e6].map(number), ["12", "0.1", "2.5", "1000000"]);
        assert_eq!(axis_of_time(100.0).1, "minutes");
        assert_eq!(axis_of_time(1e6).1, "days");
    }
}
