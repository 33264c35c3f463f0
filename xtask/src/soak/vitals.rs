//! What a process takes while it runs: memory, open files, threads; and whether that grows.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Part of a run that is left out at its beginning: tables fill, and histories.
const WARM_UP: f64 = 0.25;

/// One look at a process.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    kib: f64,
    files: f64,
    threads: f64,
}

/// Looks at one process over time.
#[derive(Debug)]
pub(crate) struct Vitals {
    pid: u32,
    began: Instant,
    samples: Vec<Sample>,
}

/// How one figure went: where it began, the most, and its fitted growth over the whole run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Course {
    pub(crate) first: f64,
    pub(crate) most: f64,
    pub(crate) growth: f64,
}

/// How all figures went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Courses {
    pub(crate) kib: Course,
    pub(crate) files: Course,
    pub(crate) threads: Course,
    pub(crate) samples: usize,
}

impl Vitals {
    /// Of this process.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, began: Instant::now(), samples: Vec::new() }
    }

    /// Looks once.
    pub(crate) fn look(&mut self) -> Result<()> {
        let folder = format!("/proc/{}", self.pid);
        let status = fs::read_to_string(format!("{folder}/status"))
            .with_context(|| format!("process {} ended", self.pid))?;
        let value = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("no {name} in the status of process {}", self.pid))
        };
        self.samples.push(Sample {
            seconds: self.began.elapsed().as_secs_f64(),
            kib: value("VmRSS:")?,
            files: fs::read_dir(format!("{folder}/fd"))?.count() as f64,
            threads: value("Threads:")?,
        });
        Ok(())
    }

    /// What was seen after the warm-up.
    pub(crate) fn courses(&self, length: Duration) -> Courses {
        let warm = length.as_secs_f64() * WARM_UP;
        let mut samples: Vec<_> =
            self.samples.iter().filter(|sample| sample.seconds >= warm).copied().collect();
        if samples.is_empty() {
            samples.clone_from(&self.samples);
        }
        let course = |figure: fn(&Sample) -> f64| course(&samples, figure);
        Courses {
            kib: course(|sample| sample.kib),
            files: course(|sample| sample.files),
            threads: course(|sample| sample.threads),
            samples: samples.len(),
        }
    }
}

fn course(samples: &[Sample], figure: fn(&Sample) -> f64) -> Course {
    let points: Vec<(f64, f64)> =
        samples.iter().map(|sample| (sample.seconds, figure(sample))).collect();
    let span = match (points.first(), points.last()) {
        (Some(first), Some(last)) => last.0 - first.0,
        _ => 0.0,
    };
    Course {
        first: points.first().map_or(0.0, |point| point.1),
        most: points.iter().map(|point| point.1).fold(0.0, f64::max),
        growth: slope(&points) * span,
    }
}

/// The slope of the line with the least squares; 0 of fewer than two points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |which: fn(&(f64, f64)) -> f64| points.iter().map(which).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if square > 0.0 { both / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_what_goes_up_and_down() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 4.0), (1.0, 6.0), (2.0, 6.0), (3.0, 4.0)]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9 && slope(&[(1.0, 1.0)]).abs() < 1e-9);
    }

    #[test]
    fn the_beginning_is_left_out() {
        let mut vitals = Vitals::of(1);
        for second in 0..100_u32 {
            let seconds = f64::from(second);
            let kib = if second < 20 { 10.0 * seconds } else { 500.0 };
            vitals.samples.push(Sample { seconds, kib, files: 9.0, threads: seconds });
        }
        let courses = vitals.courses(Duration::from_secs(100));
        assert_eq!(courses.kib, Course { first: 500.0, most: 500.0, growth: 0.0 });
        assert!((courses.threads.growth - 74.0).abs() < 1e-6, "{courses:?}");
        assert_eq!(courses.samples, 75);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let mut vitals = Vitals::of(std::process::id());
        vitals.look().unwrap();
        let seen = vitals.courses(Duration::ZERO);
        assert!(seen.kib.most > 100.0 && seen.files.most >= 3.0 && seen.threads.most >= 1.0);
        assert!(Vitals::of(u32::MAX).look().is_err());
    }
}
