//! The room as a whole: sample packages, broken packages, arbitrary bytes.
