//! Draws what a Prometheus collected: `panels ANSWERS.json PICTURE.svg`. The answers are a list of panels, each with a title, a unit and the
//! `result` of a `query_range`; `device_metrics` saves one where `VOLUMED_TEST_PANELS` says.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use plotters::prelude::*;
use serde_json::Value;

const COLUMNS: usize = 3;
const PANEL: (u32, u32) = (460, 300);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(23, 190, 207),
];
/// A gap as long as this many seconds is none that a line goes over.
const GAP: f64 = 2.5;

/// One line of a panel.
struct Line {
    name: String,
    /// Seconds since the beginning, and what it was.
    points: Vec<(f64, f64)>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = args.as_slice() else {
        eprintln!("panels ANSWERS.json PICTURE.svg");
        return ExitCode::from(2);
    };
    match draw(from, to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("panels: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(from: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let panels: Vec<Value> = serde_json::from_str(&fs::read_to_string(from)?)?;
    let starts = panels.iter().flat_map(times);
    let begin = starts.fold(f64::INFINITY, f64::min);
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * u32::try_from(COLUMNS)?, PANEL.1 * u32::try_from(rows)?);
    let root = SVGBackend::new(to, size).into_drawing_area();
    root.fill(&WHITE)?;
    let end = panels.iter().flat_map(times).fold(0.0, f64::max) - begin;
    for (panel, area) in panels.iter().zip(root.split_evenly((rows, COLUMNS))) {
        let text = |key: &str| panel[key].as_str().unwrap_or_default().to_owned();
        let mut lines = lines_of(panel, begin);
        let states = text("unit").is_empty();
        if states {
            in_lanes(&mut lines);
        }
        let all = || lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
        let most = all().fold(f64::MIN_POSITIVE, f64::max) * 1.25;
        let least = all().fold(0.0, f64::min);
        let unit = text("unit");
        let title = if unit.is_empty() { text("title") } else { format!("{} ({unit})", text("title")) };
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..end, least..most)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_labels(7)
            .y_labels(6)
            .x_label_formatter(&|seconds| format!("{seconds:.0} s"))
            .y_label_formatter(&|value| if states { String::new() } else { short(*value, &unit) })
            .label_style(("sans-serif", 11))
            .draw()?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let mut named = false;
            for part in line.points.chunk_by(|a, b| b.0 - a.0 < GAP) {
                let series = chart.draw_series(LineSeries::new(part.iter().copied(), colour.stroke_width(2)))?;
                if lines.len() > 1 && !std::mem::replace(&mut named, true) {
                    let sample = move |(x, y)| PathElement::new(vec![(x, y), (x + 12, y)], colour.stroke_width(2));
                    series.label(&line.name).legend(sample);
                }
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 11))
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    root.present()?;
    Ok(())
}

fn series(panel: &Value) -> &[Value] {
    panel["result"].as_array().map_or(&[], Vec::as_slice)
}

fn points(one: &Value) -> impl Iterator<Item = (f64, f64)> {
    let values = one["values"].as_array().map_or(&[][..], Vec::as_slice);
    values.iter().filter_map(|pair| {
        let value: f64 = pair[1].as_str()?.parse().ok()?;
        value.is_finite().then_some((pair[0].as_f64()?, value))
    })
}

fn times(panel: &Value) -> impl Iterator<Item = f64> {
    series(panel).iter().flat_map(|one| points(one).map(|(time, _)| time))
}

/// The lines, named by what they differ in.
fn lines_of(panel: &Value, begin: f64) -> Vec<Line> {
    let all = series(panel);
    let value = |one: &Value, label: &str| one["metric"][label].as_str().unwrap_or_default().to_owned();
    let labels: Vec<String> =
        ["__name__", "alertname", "operation", "confidence", "code", "pool"].map(str::to_owned).into();
    let differs = |label: &&String| all.iter().any(|one| value(one, label) != value(&all[0], label));
    let telling: Vec<&String> = labels.iter().filter(differs).collect();
    let line = |one: &Value| {
        let words: Vec<String> = match telling.as_slice() {
            [] => vec![value(one, "pool") + &value(one, "alertname") + &value(one, "operation")],
            some => some.iter().map(|label| value(one, label)).filter(|word| !word.is_empty()).collect(),
        };
        let name = words.join(" ").replace("volumed_pool_", "").replace("_bytes", "");
        Line { name, points: points(one).map(|(time, value)| (time - begin, value)).collect() }
    };
    all.iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

/// Lines that say only when something is so: those of one name become one, and each is drawn at a height of its own.
fn in_lanes(lines: &mut Vec<Line>) {
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines.dedup_by(|next, line| {
        let same = next.name == line.name;
        if same {
            line.points.append(&mut next.points);
            line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        same
    });
    for (lane, line) in lines.iter_mut().enumerate() {
        line.points.iter_mut().for_each(|(_, value)| *value = 0.3 + 0.3 * lane as f64);
    }
}

fn short(value: f64, unit: &str) -> String {
    let steps: &[(f64, &str)] = if unit.starts_with("bytes") {
        &[(1_073_741_824.0, " GiB"), (1_048_576.0, " MiB"), (1024.0, " KiB")]
    } else {
        &[(1e6, " M"), (1e3, " k")]
    };
    match steps.iter().find(|(least, _)| value.abs() >= *least) {
        Some((least, word)) => format!("{:.1}{word}", value / least),
        None if value == value.trunc() => format!("{value:.0}"),
        None => format!("{value:.2}"),
    }
}
