//! What bounds a search: folders, times, scores, places among the hits.

use super::*;

#[test]
fn folders_are_those_meant_and_no_others() {
    let (_folder, mut index) = new_index();
    let all_paths = [
        "/p/a/1.jpg",
        "/p/a/b/2.jpg",
        "/p/ab/3.jpg",
        "/p/a.jpg",
        "/p/a-/4.jpg",
        "/p/a0/5.jpg",
        "/q/a/6.jpg",
        "/7.jpg",
    ];
    let items: Vec<Item> = all_paths
        .iter()
        .zip(0..)
        .map(|(path, number)| image(path, number))
        .collect();
    index.add(&items, &rows(0..8)).unwrap();
    let found = |within: &[&str], not_within: &[&str]| {
        let filter = ItemFilter {
            within: within.iter().map(PathBuf::from).collect(),
            not_within: not_within.iter().map(PathBuf::from).collect(),
            ..ItemFilter::default()
        };
        let listed = index.items(&filter).unwrap();
        let hits = search(&index, 5, &filtered(filter));
        assert_eq!(hits.len(), listed.len());
        hits.iter().for_each(|hit| assert_score(hit, 5));
        let paths = paths(&hits);
        paths
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&["/p/a"], &[]), ["/p/a/1.jpg", "/p/a/b/2.jpg"]);
    assert_eq!(
        found(&["/p/a/b", "/q"], &[]),
        ["/p/a/b/2.jpg", "/q/a/6.jpg"]
    );
    assert_eq!(
        found(&["/p"], &["/p/a"]),
        ["/p/a-/4.jpg", "/p/a.jpg", "/p/a0/5.jpg", "/p/ab/3.jpg"]
    );
    assert_eq!(found(&[], &["/p"]), ["/7.jpg", "/q/a/6.jpg"]);
    assert_eq!(found(&["/"], &[]).len(), 8);
    assert_eq!(found(&["/p/a/"], &["/p/a/b/"]), ["/p/a/1.jpg"]);
    assert!(found(&["/nowhere"], &[]).is_empty());
    let many: Vec<String> = (0..3000).map(|number| format!("/no/{number}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("/q");
    assert_eq!(found(&many, &[]), ["/q/a/6.jpg"]);
    assert_eq!(found(&[], &many).len(), 7);
}

#[test]
fn times_offsets_and_scores_bound_what_is_found() {
    let (_folder, mut index) = new_index();
    add(&mut index, 0..50);
    let between = |since, until| {
        filtered(ItemFilter {
            since,
            until,
            ..ItemFilter::default()
        })
    };
    assert_eq!(search(&index, 1, &between(Some(10), Some(12))).len(), 2);
    assert_eq!(search(&index, 1, &between(Some(49), None)).len(), 1);
    assert_eq!(search(&index, 1, &between(None, Some(0))).len(), 0);
    let everything = search(&index, 7, &all());
    assert_eq!(everything.len(), 50);
    for (offset, limit) in [(0, 10), (3, 4), (45, 10), (50, 1), (99, 0), (20, 0)] {
        let options = SearchOptions {
            limit,
            offset,
            ..SearchOptions::default()
        };
        let end = if limit == 0 {
            50
        } else {
            (offset + limit).min(50)
        };
        assert_eq!(
            search(&index, 7, &options),
            everything[offset.min(50)..end.max(offset.min(50))]
        );
    }
    let least = everything[5].score;
    let options = SearchOptions {
        min_score: Some(least),
        ..all()
    };
    assert_eq!(search(&index, 7, &options), everything[..6]);
    let options = SearchOptions {
        min_score: Some(1.1),
        ..all()
    };
    assert!(search(&index, 7, &options).is_empty());
}
