//! Plots of runs, as SVG and PNG: utilisation, queue length, Gantt chart, distributions.
//!
//! Owns the drawing; [`series`] makes the numbers. Each figure is drawn twice by the same code, once on each
//! of the library's two backends. The font of the PNG files is carried along: no machine has to have one.

mod frame;
mod series;

use std::path::Path;

use plotters::prelude::*;

pub use frame::font;

use crate::trace::TraceJob;
use crate::trace::figures::bounded_slowdown;
use frame::{Area, Figure, Outcome, axis_of_time, color, distribution, draw_both, legend, mesh};
use series::{Bar, Steps, cumulated, queue_length, utilisation};

/// A run as plots need it.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// How the legend calls it.
    pub name: &'a str,
    /// Its jobs.
    pub jobs: &'a [TraceJob],
    /// Their starts.
    pub starts: &'a [i64],
    /// Processors of the machine.
    pub procs: u32,
}

/// The most jobs of a Gantt chart: more would be a carpet.
const GANTT_JOBS: usize = 400;

/// A line over time for each run.
struct OverTime {
    title: &'static str,
    unit: &'static str,
    lines: Vec<(String, Steps)>,
}

/// The share of jobs up to a value, for each run; the value on a logarithmic axis from `least` on.
struct Shares {
    title: &'static str,
    unit: &'static str,
    least: f64,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Processors by time: each job a bar on the processors that a first-fit list gives it.
struct Gantt {
    title: String,
    procs: u32,
    bars: Vec<Bar>,
}

/// Draws one run, or several over each other, into a folder, which is made. Answers the names of the files.
///
/// # Errors
/// A sentence: what cannot be written.
pub fn draw(folder: &Path, runs: &[Run<'_>]) -> Result<Vec<String>, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let lines =
        |steps: fn(&Run<'_>) -> Steps| runs.iter().map(|run| (run.name.to_owned(), steps(run))).collect();
    let used =
        OverTime { title: "Processors in use", unit: "processors in use, %", lines: lines(utilisation) };
    let queue = OverTime { title: "Waiting jobs", unit: "waiting jobs", lines: lines(queue_length) };
    let shares = |value: fn(&TraceJob, i64) -> f64| {
        let curve = |run: &Run<'_>| {
            let values = run.jobs.iter().zip(run.starts).map(|(job, start)| value(job, *start)).collect();
            (run.name.to_owned(), cumulated(values))
        };
        runs.iter().map(curve).collect()
    };
    let waits = Shares {
        title: "Waits",
        unit: "wait, minutes (at the left edge: six seconds or less)",
        least: 0.1,
        lines: shares(|job, start| ((start - job.submit) as f64 / 60.0).max(0.1)),
    };
    let slowdowns = Shares {
        title: "Bounded slowdown",
        unit: "bounded slowdown",
        least: 1.0,
        lines: shares(|job, start| bounded_slowdown(job, start - job.submit)),
    };
    let mut names = Vec::new();
    let mut both = |name: &str, drawn: Result<(), String>| {
        names.extend([format!("{name}.svg"), format!("{name}.png")]);
        drawn
    };
    both("utilisation", draw_both(folder, "utilisation", &used))?;
    both("queue", draw_both(folder, "queue", &queue))?;
    both("waits", draw_both(folder, "waits", &waits))?;
    both("slowdowns", draw_both(folder, "slowdowns", &slowdowns))?;
    if let [run] = runs {
        let shown = run.jobs.len().min(GANTT_JOBS);
        let title = format!("Processors of the first {shown} jobs: {}", run.name);
        let gantt = Gantt { title, procs: run.procs, bars: series::bars(run, GANTT_JOBS) };
        both("gantt", draw_both(folder, "gantt", &gantt))?;
    }
    Ok(names)
}

impl Figure for OverTime {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Outcome<B> {
        let values = self.lines.iter().flat_map(|(_, steps)| &steps.points).map(|(_, value)| *value);
        let most = values.fold(0.0, f64::max);
        let until = self.lines.iter().map(|(_, steps)| steps.until).fold(1.0, f64::max);
        let (scale, name) = axis_of_time(until);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 28))
            .margin(16)
            .x_label_area_size(56)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..until / scale, 0.0..(most * 1.08).max(1.0))?;
        mesh(&mut chart, &format!("time since the first submission, {name}"), self.unit)?;
        for (place, (run, steps)) in self.lines.iter().enumerate() {
            let points = steps.points.iter().map(|(at, value)| (at / scale, *value));
            let style = color(place).stroke_width(2);
            if self.lines.len() == 1 {
                chart.draw_series(AreaSeries::new(points.clone(), 0.0, color(place).mix(0.2)))?;
            }
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(run)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        legend(&mut chart, SeriesLabelPosition::UpperRight)?;
        area.present()
    }
}

impl Figure for Shares {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Outcome<B> {
        distribution(area, &self.lines, self.title, self.unit, self.least)
    }
}

impl Figure for Gantt {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Outcome<B> {
        let until = self.bars.iter().map(|bar| bar.end).fold(1.0, f64::max);
        let (scale, name) = axis_of_time(until);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 28))
            .margin(16)
            .x_label_area_size(56)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..until / scale, 0.0..f64::from(self.procs))?;
        mesh(&mut chart, &format!("time since the first submission, {name}"), "processors")?;
        let corners =
            |bar: &Bar| [(bar.start / scale, f64::from(bar.low)), (bar.end / scale, f64::from(bar.high))];
        chart.draw_series(
            self.bars.iter().map(|bar| Rectangle::new(corners(bar), color(bar.job).mix(0.75).filled())),
        )?;
        chart.draw_series(self.bars.iter().map(|bar| Rectangle::new(corners(bar), WHITE.stroke_width(1))))?;
        area.present()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_drawn_twice() {
        let job = |number, submit, procs| TraceJob {
            number,
            submit,
            run: 500,
            procs,
            estimate: 500,
            user: 0,
            need: 0,
        };
        let jobs = [job(1, 0, 2), job(2, 10, 3), job(3, 700, 1)];
        let run = Run { name: "easy", jobs: &jobs, starts: &[0, 500, 700], procs: 4 };
        let folder = std::env::temp_dir().join(format!("sluice-plot-{}", std::process::id()));
        let names = draw(&folder, &[run]).unwrap();
        assert_eq!(names.len(), 10);
        for name in &names {
            let bytes = std::fs::read(folder.join(name)).unwrap();
            let begins: &[u8] = if name.ends_with("png") { b"\x89PNG" } else { b"<svg" };
            assert!(bytes.starts_with(begins) && bytes.len() > 3000, "{name}: {} bytes", bytes.len());
        }
        let text = std::fs::read_to_string(folder.join("utilisation.svg")).unwrap();
        assert!(text.contains("processors in use, %") && text.contains("minutes"), "{text}");
        assert_eq!(draw(&folder, &[run, Run { name: "cons", ..run }]).unwrap().len(), 8);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
