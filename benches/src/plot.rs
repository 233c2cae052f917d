//! A picture of a benchmark: for each row what volumed costs, in what each of the others costs, on a logarithmic axis.

use std::error::Error;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::record::Record;
use crate::samples::Ratio;
use crate::table::{Aim, OURS, Row};

const WIDTH: u32 = 1000;
const ROW: u32 = 30;
const HEAD: u32 = 70;
const LEFT: u32 = 420;
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(255, 127, 14), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];
const BETTER: RGBColor = RGBColor(235, 245, 235);

/// One bar.
#[derive(Clone, Debug, PartialEq)]
struct Bar {
    name: String,
    against: usize,
    ratio: Ratio,
    /// At most.
    aim: Option<f64>,
}

/// Draws one picture of all records of a benchmark; `false` if they have nothing to compare.
///
/// # Errors
/// The file cannot be written.
pub fn draw(records: &[&Record], file: &Path) -> Result<bool> {
    let (bars, peers) = bars(records);
    if bars.is_empty() {
        return Ok(false);
    }
    let title = records.first().map_or("", |record| record.mark.as_str());
    chart(title, &bars, &peers, file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    Ok(true)
}

fn bars(records: &[&Record]) -> (Vec<Bar>, Vec<String>) {
    let (mut bars, mut peers) = (Vec::new(), Vec::<String>::new());
    for record in records {
        for row in record.tables.iter().flat_map(|table| &table.rows) {
            for who in row.by.keys().filter(|who| *who != OURS) {
                let Some(ratio) = row.cost(OURS, who) else { continue };
                let against = peers.iter().position(|known| known == who).unwrap_or_else(|| {
                    peers.push(who.clone());
                    peers.len() - 1
                });
                let at = row.volumes.map_or_else(String::new, |count| format!(", {count} volumes"));
                let name = format!("{}{at} ({})", row.what, record.machine.runner);
                bars.push(Bar { name, against, ratio, aim: aim(row, who) });
            }
        }
    }
    (bars, peers)
}

/// What is aimed at against this peer, as a cost: at most so many times.
fn aim(row: &Row, who: &str) -> Option<f64> {
    row.aims.iter().find_map(|aim| match aim {
        Aim::AtMost { of, to, times } if of == OURS && to == who => Some(*times),
        Aim::AtLeast { of, to, share } if of == OURS && to == who => Some(1.0 / share),
        Aim::Better { of, than, times } if of == OURS && than == who => Some(1.0 / times),
        _ => None,
    })
}

/// How a cost stands on the axis; the label says the cost itself.
fn place(cost: f64) -> f64 {
    cost.clamp(1e-4, 1e4).log10()
}

fn label(place: f64) -> String {
    let cost = 10f64.powf(place);
    if cost >= 1.0 { format!("{cost:.0} x") } else { format!("1/{:.0}", 1.0 / cost) }
}

fn chart(title: &str, bars: &[Bar], peers: &[String], file: &Path) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(bars.len())?;
    let root = SVGBackend::new(file, (WIDTH, HEAD * 2 + ROW * count)).into_drawing_area();
    root.fill(&WHITE)?;
    let ends = bars.iter().flat_map(|bar| [Some(bar.ratio.least), Some(bar.ratio.most), bar.aim]).flatten().map(place);
    let (low, high) = ends.fold((-0.5_f64, 0.5_f64), |(low, high), at| (low.min(at), high.max(at)));
    let (low, high) = (low - 0.2, high + 0.2);
    // The first row stands at the top.
    let height = f64::from(count);
    let middle = |index: usize| height - index as f64 - 0.5;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{title}: what volumed costs, in what the others cost"), ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(low..high, 0.0..height)?;
    // Left of one volumed costs less.
    chart.draw_series([Rectangle::new([(low, 0.0), (0.0, height)], BETTER.filled())])?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(220, 220, 220))
        .x_labels(9)
        .y_labels(0)
        .x_label_formatter(&|at| label(*at))
        .label_style(("sans-serif", 12))
        .draw()?;
    for (index, bar) in bars.iter().enumerate() {
        let (_, y) = chart.backend_coord(&(low, middle(index)));
        root.draw(&Text::new(bar.name.clone(), (12, y - 6), ("sans-serif", 12)))?;
    }
    for (at, peer) in peers.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let own = bars.iter().enumerate().filter(|(_, bar)| bar.against == at);
        let shapes = own.clone().map(|(index, bar)| {
            let (from, to) = (place(bar.ratio.median).min(0.0), place(bar.ratio.median).max(0.0));
            Rectangle::new([(from, middle(index) - 0.3), (to, middle(index) + 0.3)], colour.mix(0.7).filled())
        });
        let series = chart.draw_series(shapes)?;
        series
            .label(format!("beside {peer}"))
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
        // The spread over the rounds.
        chart.draw_series(own.clone().map(|(index, bar)| {
            let ends = [(place(bar.ratio.least), middle(index)), (place(bar.ratio.most), middle(index))];
            PathElement::new(ends.to_vec(), BLACK.stroke_width(2))
        }))?;
        chart.draw_series(own.filter_map(|(index, bar)| {
            let at = place(bar.aim?);
            let ends = vec![(at, middle(index) - 0.45), (at, middle(index) + 0.45)];
            Some(PathElement::new(ends, RED.stroke_width(2)))
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 12))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::record::FORMAT;
    use crate::table::{Table, Unit};

    #[test]
    fn a_picture_names_its_rows_and_none_is_drawn_of_nothing() {
        let mut row = Row::new("create", Unit::Seconds).aiming([Aim::at_most(1.15, "bare")]);
        for round in 0..3 {
            row.of(OURS).add(round, 0.002);
            row.of("bare").add(round, 0.001);
        }
        let mut record = Record {
            format: FORMAT,
            mark: "create".into(),
            question: String::new(),
            machine: Machine { runner: "uml".into(), ..Machine::default() },
            commit: None,
            began: 0,
            took_seconds: 0.0,
            rounds: 3,
            samples: 1,
            tables: vec![Table::new("t", vec![row])],
            counts: Vec::new(),
            notes: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("create.svg");
        assert!(draw(&[&record], &file).unwrap());
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(svg.contains("create (uml)") && svg.contains("beside bare"), "{svg}");
        record.tables.clear();
        assert!(!draw(&[&record], &file).unwrap());
    }

    #[test]
    fn the_axis_tells_costs() {
        assert_eq!((label(0.0).as_str(), label(1.0).as_str(), label(-2.0).as_str()), ("1 x", "10 x", "1/100"));
        assert_eq!(place(0.0), -4.0);
    }
}
