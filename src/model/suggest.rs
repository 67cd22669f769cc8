//! "Did you mean …?"

/// Words longer than this are not compared: nobody means a short key by them.
const LONGEST: usize = 64;

/// The word of `known` that `word` was probably meant to be: a few letters off, or short for it.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    // "memory" for "memory_mb", "img" for "image".
    let shortens = |short: &str, long: &str| {
        let mut letters = long.chars();
        short.len() >= 3
            && short.len() * 2 >= long.len()
            && short.as_bytes().first() == long.as_bytes().first()
            && short.chars().all(|c| letters.any(|l| l == c))
    };
    known
        .into_iter()
        .filter(|k| k.len() <= LONGEST)
        .filter_map(|k| {
            let off = distance(&word.to_lowercase(), k);
            let bound = (word.len().max(k.len()) / 3).clamp(1, 3);
            if off <= bound {
                Some((off, k))
            } else {
                (shortens(word, k) || shortens(k, word)).then_some((bound + 1, k))
            }
        })
        .min_by_key(|(off, _)| *off)
        .map(|(_, k)| k)
}

/// `, did you mean …?`, else what there is, for the end of a message. At most 25 words are listed.
pub fn hint<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(k) => format!("; did you mean \"{k}\"?"),
        None => format!("; there are: {}", list(known)),
    }
}

/// The words with commas, at most 25 of them.
pub fn list<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    const SHOWN: usize = 25;
    let mut words = words.into_iter();
    let shown: Vec<&str> = words.by_ref().take(SHOWN).collect();
    match (shown.len(), words.count()) {
        (0, _) => "none".to_string(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How many letters must be changed, added, dropped or swapped with their neighbour to make `b` of `a`
/// ("optimal string alignment").
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_not() {
        let known = ["memory_mb", "vcpus", "ports", "env", "env_file", "image"];
        for (word, meant) in [
            ("memroy_mb", Some("memory_mb")),
            ("memory", Some("memory_mb")),
            ("Image", Some("image")),
            ("port", Some("ports")),
            ("cpus", Some("vcpus")),
            ("img", Some("image")),
            ("env-file", Some("env_file")),
            ("zzz", None),
            ("", None),
            ("a key that nobody would ever write, because it is so very, very long", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("ab", "ba"), 1);
    }
}
