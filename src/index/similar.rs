//! Items that are nearly the same.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::catalog::Named;
use super::rank::Allowed;
use super::view::View;
use super::{Index, Item, ItemFilter};
use crate::error::Result;

impl Index {
    /// Groups of items whose rows are nearly the same: each begins with the item that `better` puts first, and holds
    /// every other whose cosine with that one reaches `least` and that is in no group before it. Items that are like no
    /// other are left out.
    ///
    /// # Cost
    ///
    /// A scan for each row: about 10 seconds for 100,000 rows on two cores.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged) if a row is not what was written.
    pub fn similar(
        &self,
        least: f32,
        filter: &ItemFilter,
        better: impl FnMut(&Item, &Item) -> Ordering,
    ) -> Result<Vec<Vec<(Item, f32)>>> {
        self.reading(|catalog, view| groups(view, catalog.items(filter)?, least, better))
    }
}

fn groups(
    view: &View,
    mut items: Vec<Named>,
    least: f32,
    mut better: impl FnMut(&Item, &Item) -> Ordering,
) -> Result<Vec<Vec<(Item, f32)>>> {
    items.sort_by(|a, b| better(&a.item, &b.item));
    let mut of_row: HashMap<usize, Vec<Item>> = HashMap::new();
    let mut order = Vec::new();
    for Named { item, row, .. } in items {
        let of_row = of_row.entry(row).or_default();
        if of_row.is_empty() {
            order.push(row);
        }
        of_row.push(item);
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    let allowed = Allowed::Only(sorted);
    let mut groups = Vec::new();
    for row in order {
        if !of_row.contains_key(&row) {
            continue;
        }
        let query = view.read(&[row])?;
        let like = view.ranked().reaching(query.row(0), &allowed, least)?;
        let others = like.into_iter().filter(|(other, _)| *other != row);
        let mut group = Vec::new();
        for (other, score) in std::iter::once((row, 1.0)).chain(others) {
            let items = of_row.remove(&other).unwrap_or_default();
            group.extend(items.into_iter().map(|item| (item, score.clamp(-1.0, 1.0))));
        }
        if group.len() > 1 {
            groups.push(group);
        }
    }
    Ok(groups)
}
