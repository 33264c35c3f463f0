//! Splits a count over those who have a part in it.

/// Splits `total` by weight; the parts add up to `total` exactly. Those without weight get nothing;
/// if none has any, the result is empty.
pub(crate) fn split<T>(total: u64, weighted: impl IntoIterator<Item = (T, u64)>) -> Vec<(T, u64)> {
    let mut parts: Vec<_> = weighted.into_iter().filter(|(_, weight)| *weight > 0).collect();
    let mut weights_left: u64 = parts.iter().map(|(_, weight)| weight).sum();
    let mut left = total;
    for (_, part) in &mut parts {
        let weight = *part;
        *part = (u128::from(left) * u128::from(weight) / u128::from(weights_left)) as u64;
        left -= *part;
        weights_left -= weight;
    }
    parts.retain(|(_, part)| *part > 0);
    parts
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn parts_add_up() {
        let parts = split(100, [("a", 3), ("b", 0), ("c", 5), ("d", 7)]);
        assert_eq!(parts, [("a", 20), ("c", 33), ("d", 47)]);
        assert!(split(10, [("a", 0)]).is_empty());
    }
}
