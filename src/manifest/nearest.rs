//! "Did you mean …?"

/// Names longer than this are not compared: nobody mistypes them by a letter or two.
const LONGEST: usize = 64;

/// The candidate that a mistyped name was most likely meant to be.
///
/// Letters, case and neighbouring letters that changed places are forgiven up to a third of the
/// name's length; nothing comes back where no candidate is that near. Of equally near ones the
/// first counts.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = name.chars().count();
    if length == 0 || length > LONGEST {
        return None;
    }
    let folded = name.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = candidate.chars().count();
        let allowed = (length.max(other) / 3).max(1);
        if other > LONGEST || length.abs_diff(other) > allowed {
            continue;
        }
        let distance = strsim::osa_distance(&folded, &candidate.to_lowercase());
        if distance <= allowed && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Guesses at names of a package among names of the same package. Both may be many, so there is an
/// end to it.
#[derive(Debug)]
pub(crate) struct Guesses {
    comparisons_left: usize,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { comparisons_left: 5_000 }
    }
}

impl Guesses {
    /// The nearest candidate, as long as guessing has not become too much work.
    pub(crate) fn nearest<'c>(
        &mut self,
        name: &str,
        candidates: impl ExactSizeIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        self.comparisons_left = self.comparisons_left.checked_sub(candidates.len().max(1))?;
        nearest(name, candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_mistakes_are_forgiven() {
        let keys = ["includeEventsFrom", "ignoreSourceId", "subscriptions", "url", "name"];
        assert_eq!(nearest("includEventsFrom", keys), Some("includeEventsFrom"));
        assert_eq!(nearest("IGNORESOURCEID", keys), Some("ignoreSourceId"));
        assert_eq!(nearest("ulr", keys), Some("url"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"n".repeat(10_000), keys), None);
    }

    #[test]
    fn guessing_comes_to_an_end() {
        let mut guesses = Guesses { comparisons_left: 5 };
        let names = ["alpha", "beta"];
        assert_eq!(guesses.nearest("alpa", names.into_iter()), Some("alpha"));
        assert_eq!(guesses.nearest("bata", names.into_iter()), Some("beta"));
        assert_eq!(guesses.nearest("alpa", names.into_iter()), None);
    }
}
