use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// Photos in folders, of which the first is kept, and a quarantine that is not there yet.
struct Scene {
    root: TempDir,
    plan: Plan,
}

const FILES: [(&str, &str); 4] = [
    ("photos/best.jpg", "best"),
    ("photos/a/one.jpg", "first copy"),
    ("photos/b/one.jpg", "second copy"),
    ("photos/b/two.jpg", "third copy"),
];

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in FILES {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let file = |(name, _): (&str, &str)| planned(&root.path().join(name));
        let group = PlannedGroup {
            keep: file(FILES[0]),
            moves: FILES[1..].iter().map(|&named| file(named)).collect(),
        };
        let plan = Plan::new(vec![group]);
        Self { root, plan }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn quarantine(&self) -> Quarantine {
        Quarantine::open(&self.path("quarantine")).unwrap()
    }

    fn carry_out(&self) -> Vec<String> {
        let mut fates = Vec::new();
        let told = |_: &Path, fate: Fate| fates.push(word(&fate));
        self.quarantine().carry_out(&self.plan, told).unwrap();
        fates
    }

    fn undo(&self) -> Vec<String> {
        let mut fates = Vec::new();
        self.quarantine().undo(|_, fate| fates.push(word(&fate)));
        fates.sort();
        fates
    }

    /// Every content is there exactly once, the copies below this folder.
    fn assert_copies_below(&self, folder: &str) {
        for (name, content) in &FILES[1..] {
            let inner = Path::new(name).strip_prefix("photos").unwrap();
            let path = self.path(folder).join(inner);
            assert_eq!(fs::read_to_string(&path).unwrap(), *content);
        }
        let below = |folder: &str| -> usize {
            walkdir::WalkDir::new(self.path(folder))
                .into_iter()
                .filter(|entry| {
                    entry
                        .as_ref()
                        .is_ok_and(|entry| entry.file_type().is_file())
                })
                .count()
        };
        // The kept file and the journal.
        assert_eq!(below("photos") + below("quarantine"), FILES.len() + 1);
        assert_eq!(
            fs::read_to_string(self.path("photos/best.jpg")).unwrap(),
            "best"
        );
    }
}

fn planned(path: &Path) -> PlannedFile {
    PlannedFile::new(path.to_owned(), Stat::of(&path.metadata().unwrap()))
}

fn word(fate: &Fate) -> String {
    match fate {
        Fate::Moved { .. } => "moved".to_owned(),
        Fate::Before => "before".to_owned(),
        Fate::Left(reason) => reason.to_string(),
    }
}

#[test]
fn there_and_back_again() {
    let scene = Scene::new();
    assert_eq!(scene.carry_out(), ["moved"; 3]);
    scene.assert_copies_below("quarantine");
    assert_eq!(scene.carry_out(), ["before"; 3]);
    assert_eq!(scene.undo(), ["moved"; 3]);
    scene.assert_copies_below("photos");
    assert_eq!(scene.undo(), ["before"; 3]);
    // The times are as they were, so that the same plan still holds.
    assert_eq!(scene.carry_out(), ["moved"; 3]);
    scene.assert_copies_below("quarantine");
}

#[test]
fn what_is_not_as_planned_stays() {
    let scene = Scene::new();
    fs::write(scene.path("photos/a/one.jpg"), "edited since").unwrap();
    fs::remove_file(scene.path("photos/b/one.jpg")).unwrap();
    let fates = scene.carry_out();
    let expected = [
        "changed since the plan was made",
        "not there any more",
        "moved",
    ];
    assert_eq!(fates, expected);
}

#[test]
fn without_the_file_that_is_kept_nothing_goes() {
    let scene = Scene::new();
    fs::write(scene.path("photos/best.jpg"), "other").unwrap();
    assert!(scene.carry_out()[0].contains("best.jpg, which would be kept"));
    fs::remove_file(scene.path("photos/best.jpg")).unwrap();
    assert!(scene.carry_out()[2].contains("best.jpg, which would be kept"));
}

#[cfg(unix)]
#[test]
fn links_and_other_names_of_the_kept_file_stay() {
    let mut scene = Scene::new();
    let (link, name) = (scene.path("photos/link.jpg"), scene.path("photos/name.jpg"));
    let best = scene.path("photos/best.jpg");
    std::os::unix::fs::symlink(&best, &link).unwrap();
    fs::hard_link(&best, &name).unwrap();
    scene.plan.groups[0].moves = vec![planned(&link), planned(&name)];
    let fates = scene.carry_out();
    assert_eq!(fates[0], "a link or no file");
    assert!(fates[1].starts_with("the same file as"), "{fates:?}");

    // A folder under two names holds one file, not two.
    let again = scene.path("again");
    std::os::unix::fs::symlink(scene.path("photos"), &again).unwrap();
    scene.plan.groups[0].moves = vec![planned(&again.join("best.jpg"))];
    assert!(scene.carry_out()[0].starts_with("the same file as"));
    assert_eq!(fs::read_to_string(best).unwrap(), "best");
}

#[test]
fn a_taken_place_is_left_to_what_stands_there() {
    let scene = Scene::new();
    let taken = scene.path("quarantine/a/one.jpg");
    fs::create_dir_all(taken.parent().unwrap()).unwrap();
    fs::write(&taken, "somebody else's").unwrap();
    assert_eq!(scene.carry_out(), ["moved"; 3]);
    assert_eq!(fs::read_to_string(&taken).unwrap(), "somebody else's");
    let moved = scene.path("quarantine/a/one-1.jpg");
    assert_eq!(fs::read_to_string(moved).unwrap(), "first copy");

    fs::write(scene.path("photos/b/two.jpg"), "a new one").unwrap();
    let fates = scene.undo();
    assert!(fates[0].starts_with("another file stands at"), "{fates:?}");
    let new = fs::read_to_string(scene.path("photos/b/two.jpg")).unwrap();
    let kept = fs::read_to_string(scene.path("quarantine/b/two.jpg")).unwrap();
    assert_eq!((new.as_str(), kept.as_str()), ("a new one", "third copy"));
}

#[test]
fn a_second_file_from_the_same_place_is_no_hindrance() {
    let mut scene = Scene::new();
    scene.carry_out();
    let path = scene.path("photos/a/one.jpg");
    fs::write(&path, "taken again").unwrap();
    scene.plan.groups[0].moves = vec![planned(&path)];
    assert_eq!(scene.carry_out(), ["moved"]);
    let fates = scene.undo();
    // The newer one is back; where it stands the older one cannot go.
    assert_eq!(fs::read_to_string(path).unwrap(), "taken again");
    assert!(fates[0].starts_with("another file stands at"), "{fates:?}");
    let older = scene.path("quarantine/a/one.jpg");
    assert_eq!(fs::read_to_string(older).unwrap(), "first copy");
}

/// What a process that is killed between two steps of the first move leaves behind.
fn killed(state: &str) -> Scene {
    let scene = Scene::new();
    let (from, to) = (
        scene.path("photos/a/one.jpg"),
        scene.path("quarantine/a/one.jpg"),
    );
    let file = planned(&from);
    let mut quarantine = scene.quarantine();
    if state == "line half written" {
        let journal = scene.path("quarantine/diptych-journal.jsonl");
        fs::write(journal, "{\"from\":\"/photos/a/on\0\0").unwrap();
        return scene;
    }
    let placed = quarantine.write_down(&scene.path("photos"), &file);
    assert!(placed.unwrap().ends_with("quarantine/a/one.jpg"));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    match state {
        "written down" => {}
        "second name" => fs::hard_link(&from, &to).unwrap(),
        "copy begun" => fs::write(&to, "first c").unwrap(),
        "copy not begun" => fs::write(&to, "").unwrap(),
        "copied" => moves::copy(&from, &to).unwrap(),
        "moved" => fs::rename(&from, &to).unwrap(),
        other => panic!("{other}"),
    }
    scene
}

const STATES: [&str; 7] = [
    "line half written",
    "written down",
    "second name",
    "copy begun",
    "copy not begun",
    "copied",
    "moved",
];

#[test]
fn a_killed_run_goes_on_from_every_state() {
    for state in STATES {
        let scene = killed(state);
        let first = if state == "moved" { "before" } else { "moved" };
        assert_eq!(scene.carry_out(), [first, "moved", "moved"], "{state}");
        scene.assert_copies_below("quarantine");
        assert_eq!(scene.undo(), ["moved"; 3], "{state}");
        scene.assert_copies_below("photos");
    }
}

#[test]
fn a_killed_run_is_undone_from_every_state() {
    for state in STATES {
        let scene = killed(state);
        let fates = scene.undo();
        assert!(
            fates.iter().all(|fate| fate == "moved" || fate == "before"),
            "{fates:?}"
        );
        scene.assert_copies_below("photos");
    }
}

#[test]
fn a_killed_undo_goes_on_from_every_state() {
    for state in ["second name", "copy begun", "copied"] {
        let scene = Scene::new();
        scene.carry_out();
        let here = scene.path("quarantine/b/two.jpg");
        let there = scene.path("photos/b/two.jpg");
        match state {
            "second name" => fs::hard_link(&here, &there).unwrap(),
            "copy begun" => fs::write(&there, "thi").unwrap(),
            _ => moves::copy(&here, &there).unwrap(),
        }
        assert_eq!(scene.undo(), ["moved"; 3], "{state}");
        scene.assert_copies_below("photos");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_became_a_link_into_the_quarantine_loses_nothing() {
    let scene = Scene::new();
    scene.carry_out();
    fs::remove_dir(scene.path("photos/b")).unwrap();
    std::os::unix::fs::symlink(scene.path("quarantine/b"), scene.path("photos/b")).unwrap();
    scene.undo();
    for (name, content) in [("one.jpg", "second copy"), ("two.jpg", "third copy")] {
        let path = scene.path("photos/b").join(name);
        assert_eq!(fs::read_to_string(path).unwrap(), content);
    }
}

#[test]
fn a_copy_is_whole_and_keeps_its_time() {
    let scene = Scene::new();
    let (from, to) = (scene.path("photos/a/one.jpg"), scene.path("copy.jpg"));
    moves::copy(&from, &to).unwrap();
    assert_eq!(planned(&from).stat(), planned(&to).stat());
    assert_eq!(moves::meet(&from, &to).unwrap(), Meeting::Same);
    let again = moves::copy(&scene.path("photos/b/one.jpg"), &to).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(moves::meet(&from, &to).unwrap(), Meeting::Same);
}

#[test]
fn a_quarantine_is_for_one_at_a_time() {
    let scene = Scene::new();
    let _held = scene.quarantine();
    let error = Quarantine::open(&scene.path("quarantine")).unwrap_err();
    assert!(
        error.to_string().contains("another diptych quarantine"),
        "{error}"
    );
}

#[test]
fn another_file_is_no_journal() {
    let scene = Scene::new();
    let journal = scene.path("quarantine/diptych-journal.jsonl");
    fs::create_dir_all(journal.parent().unwrap()).unwrap();
    fs::write(&journal, "my notes\n").unwrap();
    let error = Quarantine::open(&scene.path("quarantine")).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("line 1 is \"my notes\""), "{said}");
    assert!(Quarantine::reopen(&scene.path("photos")).is_err());
}

#[test]
fn plans_are_read_as_they_were_written() {
    let scene = Scene::new();
    let path = scene.path("plan.json");
    scene.plan.write(&path).unwrap();
    assert_eq!(Plan::read(&path).unwrap(), scene.plan);
    assert!(scene.plan.write(&path).is_err(), "a file is there already");
    for (text, said) in [
        ("{}", "missing field `diptych_plan`"),
        (
            "{\"diptych_plan\":2,\"groups\":[]}",
            "diptych_plan is 2, expected 1",
        ),
        (
            "{\"diptych_plan\":1,\"groups\":[{\"keep\":{\"path\":\"a\",\"size\":1,\"modified\":1},\"move\":[]}]}",
            "path is \"a\", expected an absolute path",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let error = Plan::read(&path).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
