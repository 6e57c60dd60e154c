//! Checksums of what the catalog says. SQLite has none of its own: a byte that a disk changed is another answer.
//!
//! Each item has one, over all that is told of it. Of the items, the texts and the freed rows the facts keep how many
//! there are and what their checksums add up to, so that one that a table lost is missed. The facts have one as well.

use crc32fast::Hasher;

use super::Facts;

/// All that is told of an item, as it stands in the catalog.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) folder: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) size: i64,
    pub(super) modified: i64,
    pub(super) time: i64,
    /// Stands for the row too, which is the only one of this content.
    pub(super) hash: &'a [u8],
    pub(super) text: Option<&'a str>,
    pub(super) taken: Option<i64>,
}

impl Told<'_> {
    pub(super) fn sum(&self) -> u32 {
        let mut hasher = Hasher::new();
        put_bytes(&mut hasher, self.folder);
        put_bytes(&mut hasher, self.name);
        put_bytes(&mut hasher, self.hash);
        for number in [self.size, self.modified, self.time] {
            hasher.update(&number.to_le_bytes());
        }
        if let Some(text) = self.text {
            put_bytes(&mut hasher, b"text");
            put_bytes(&mut hasher, text.as_bytes());
        }
        if let Some(taken) = self.taken {
            put_bytes(&mut hasher, b"taken");
            hasher.update(&taken.to_le_bytes());
        }
        hasher.finalize()
    }
}

/// So many things, and the sum of their checksums: no few of them can be lost or changed without a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::index) struct Tally {
    pub(in crate::index) count: usize,
    pub(super) sum: u64,
}

impl Tally {
    pub(super) fn of(sums: impl IntoIterator<Item = u32>) -> Self {
        let mut tally = Self::default();
        sums.into_iter().for_each(|sum| tally.add(sum));
        tally
    }

    pub(super) fn of_rows(rows: &[usize]) -> Self {
        Self::of(rows.iter().map(|&row| of_row(row)))
    }

    // Where the catalog is damaged a tally may be anything. Wrapped, it shows.
    pub(super) fn add(&mut self, sum: u32) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(sum));
    }

    pub(super) fn take(&mut self, sum: u32) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(sum));
    }
}

/// The checksum of a row's number.
pub(super) fn of_row(row: usize) -> u32 {
    crc32fast::hash(&(row as u64).to_le_bytes())
}

pub(super) fn of_facts(facts: &Facts) -> u32 {
    let Facts {
        model,
        width,
        generation,
        rows,
        edition,
        items,
        texts,
        freed,
    } = facts;
    let mut hasher = Hasher::new();
    put_bytes(&mut hasher, model.as_bytes());
    for number in [*width as u64, *generation, *rows as u64, *edition] {
        hasher.update(&number.to_le_bytes());
    }
    for tally in [items, texts, freed] {
        hasher.update(&(tally.count as u64).to_le_bytes());
        hasher.update(&tally.sum.to_le_bytes());
    }
    hasher.finalize()
}

/// With their length, so that none can be taken for the beginning of the next.
fn put_bytes(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_told_of_an_item_changes_its_sum() {
        let told = || Told {
            folder: b"/photos",
            name: b"1.jpg",
            size: 1,
            modified: 2,
            time: 2,
            hash: &[3; 16],
            text: None,
            taken: None,
        };
        let others = [
            Told {
                folder: b"/photo",
                name: b"s1.jpg",
                ..told()
            },
            Told {
                name: b"2.jpg",
                ..told()
            },
            Told { size: 2, ..told() },
            Told {
                modified: 3,
                ..told()
            },
            Told { time: 3, ..told() },
            Told {
                hash: &[4; 16],
                ..told()
            },
            Told {
                text: Some(""),
                ..told()
            },
            Told {
                taken: Some(0),
                ..told()
            },
        ];
        for other in others {
            assert_ne!(other.sum(), told().sum(), "{other:?}");
        }
    }

    #[test]
    fn rows_that_are_lost_or_others_are_missed() {
        let rows: Vec<usize> = (0..64).collect();
        let whole = Tally::of_rows(&rows);
        for end in 0..64 {
            assert_ne!(Tally::of_rows(&rows[..end]), whole);
            let mut others = rows.clone();
            others[end] ^= 128;
            assert_ne!(Tally::of_rows(&others), whole);
        }
    }
}
