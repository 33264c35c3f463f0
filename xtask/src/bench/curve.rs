//! How a cost grows: the exponent, its name, and a drawing with logarithmic axes.

use std::fmt::Write as _;

/// A cost in milliseconds at a size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) size: f64,
    pub(super) cost: f64,
}

/// Growth of less than this part of what is there anyway says nothing.
const NOTICEABLE: f64 = 0.2;

/// The power of the size with which the cost grows above that of the first point: least squares over
/// the logarithms. `None` if fewer than two points are noticeably above it.
pub(super) fn exponent(points: &[Point]) -> Option<f64> {
    let base = points.first()?.cost;
    let grown: Vec<(f64, f64)> = points[1..]
        .iter()
        .filter(|point| point.cost - base > base * NOTICEABLE)
        .map(|point| (point.size.ln(), (point.cost - base).ln()))
        .collect();
    if grown.len() < 2 {
        return None;
    }
    let mean = |values: &dyn Fn(&(f64, f64)) -> f64| {
        grown.iter().map(values).sum::<f64>() / grown.len() as f64
    };
    let (x, y) = (mean(&|it| it.0), mean(&|it| it.1));
    let slope = grown.iter().map(|it| (it.0 - x) * (it.1 - y)).sum::<f64>();
    Some(slope / grown.iter().map(|it| (it.0 - x).powi(2)).sum::<f64>())
}

/// What such growth is called.
pub(super) fn growth(exponent: f64) -> &'static str {
    match exponent {
        ..0.8 => "less than linear",
        0.8..=1.2 => "linear",
        _ => "more than linear",
    }
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for the labels at the left and the right, at the top and the bottom.
const MARGIN: [f64; 4] = [70.0, 90.0, 40.0, 50.0];
const COLOURS: [&str; 2] = ["#1f5fa8", "#c2571a"];

/// Whole decades around some values, as powers of ten.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (mut least, mut most) = (f64::MAX, f64::MIN);
    for value in values.map(f64::log10) {
        (least, most) = (least.min(value), most.max(value));
    }
    let (least, most) = (least.floor() as i32, most.ceil() as i32);
    (least, most.max(least + 1))
}

/// An SVG of the curves, the cost over the size.
pub(super) fn draw(title: &str, unit: &str, curves: &[(&str, &[Point])]) -> String {
    let all = || curves.iter().flat_map(|(_, points)| *points).filter(|it| it.cost > 0.0);
    let (columns, rows) = (decades(all().map(|it| it.size)), decades(all().map(|it| it.cost)));
    let [left, right, top, bottom] = MARGIN;
    let place = |value: f64, (least, most): (i32, i32)| {
        (value.log10() - f64::from(least)) / f64::from(most - least)
    };
    let x = |size: f64| left + place(size, columns) * (WIDTH - left - right);
    let y = |cost: f64| HEIGHT - bottom - place(cost, rows) * (HEIGHT - top - bottom);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let mut grid = |from: (f64, f64), to: (f64, f64), label: String, at: (f64, f64), end: &str| {
        let _ = writeln!(
            svg,
            "<path d=\"M{:.0} {:.0}L{:.0} {:.0}\" stroke=\"#ccc\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"{end}\">{label}</text>",
            from.0, from.1, to.0, to.1, at.0, at.1
        );
    };
    let (floor, ceiling) = (HEIGHT - bottom, top);
    for power in columns.0..=columns.1 {
        let at = x(10_f64.powi(power));
        grid((at, floor), (at, ceiling), decade(power), (at, floor + 18.0), "middle");
    }
    for power in rows.0..=rows.1 {
        let at = y(10_f64.powi(power));
        let label = format!("{} ms", decade(power));
        grid((left, at), (WIDTH - right, at), label, (left - 6.0, at + 4.0), "end");
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{unit}</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 12.0
    );
    for ((name, points), colour) in curves.iter().zip(COLOURS) {
        let at: Vec<(f64, f64)> = points
            .iter()
            .filter(|point| point.cost > 0.0)
            .map(|point| (x(point.size), y(point.cost)))
            .collect();
        let line: Vec<String> = at.iter().map(|(x, y)| format!("{x:.0},{y:.0}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y) in &at {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"3\" fill=\"{colour}\"/>");
        }
        if let Some((x, y)) = at.last() {
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text>",
                x + 8.0,
                y + 4.0
            );
        }
    }
    svg + "</svg>\n"
}

/// A power of ten as people write it.
fn decade(power: i32) -> String {
    let value = 10_f64.powi(power);
    if power < 0 {
        format!("{value:.*}", power.unsigned_abs() as usize)
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(power: f64) -> Vec<Point> {
        let sizes = [0.0, 10.0, 100.0, 1000.0];
        sizes.map(|size: f64| Point { size, cost: 50.0 + size.powf(power) }).into()
    }

    #[test]
    fn growth_is_named_by_its_exponent() {
        for (power, name) in [(1.0, "linear"), (2.0, "more than linear"), (0.6, "less than linear")]
        {
            let found = exponent(&points(power)).unwrap();
            assert!((found - power).abs() < 1e-6, "{found} for {power}");
            assert_eq!(growth(found), name);
        }
        assert_eq!(exponent(&points(0.0)), None, "it does not grow");
    }

    #[test]
    fn a_curve_rises_in_its_frame() {
        let points = points(1.0);
        let svg = draw("Growth", "things", &[("time", &points[1..])]);
        assert!(svg.contains(">1000</text>") && svg.contains(">10 ms</text>"), "{svg}");
        let line = svg.split("polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
        let heights: Vec<f64> = line
            .split(' ')
            .map(|point| point.split(',').nth(1).unwrap().parse().unwrap())
            .collect();
        assert!(heights.is_sorted_by(|a, b| a > b), "{heights:?}");
        assert!(heights.iter().all(|y| (0.0..HEIGHT).contains(y)));
    }
}
