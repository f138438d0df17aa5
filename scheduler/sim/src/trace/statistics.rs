//! Means with their 95 % intervals from independent parts of a run, by Student's distribution.

/// A mean and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half of the 95 % interval; `None` where there are fewer than two parts.
    pub half: Option<f64>,
    /// Parts.
    pub count: usize,
}

/// The 97.5 % points of Student's distribution for 1 to 30 degrees of freedom.
const POINTS: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

fn point(freedom: usize) -> f64 {
    // Beyond the table the difference to this expansion is below 0.001.
    POINTS.get(freedom.wrapping_sub(1)).copied().unwrap_or_else(|| 1.96 + 2.372 / freedom as f64)
}

impl Mean {
    /// Of independent numbers.
    #[must_use]
    pub fn of(numbers: &[f64]) -> Self {
        let count = numbers.len();
        if count == 0 {
            return Self { mean: 0.0, half: None, count };
        }
        let mean = numbers.iter().sum::<f64>() / count as f64;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        let half = (count > 1).then(|| {
            let deviation = (squares / (count - 1) as f64).sqrt();
            point(count - 1) * deviation / (count as f64).sqrt()
        });
        Self { mean, half, count }
    }

    /// `12.3 ± 4.5`
    #[must_use]
    pub fn text(&self, digits: usize) -> String {
        match self.half {
            Some(half) => format!("{:.digits$} ± {half:.digits$}", self.mean),
            None => format!("{:.digits$}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_known_numbers() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(mean.mean, 2.5);
        // Deviation 1.29099, 3 degrees of freedom.
        assert!((mean.half.unwrap() - 3.182 * 1.290_994 / 2.0).abs() < 1e-5);
        assert_eq!(Mean::of(&[7.0]).text(1), "7.0");
        assert!((point(31) - 2.0395).abs() < 0.003 && (point(1000) - 1.9623).abs() < 0.001);
    }
}
