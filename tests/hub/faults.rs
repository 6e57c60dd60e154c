//! What goes wrong between a hub and a cache: what is said, and that nothing which is not whole is ever used.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::{Fault, Request};
use super::*;

const GRAPH: &str = "onnx/text_model.onnx";

/// A hub where what happens to the first requests for the text graph's content is `faults`, one after the other.
fn with_faulty_graph(faults: &'static [Fault]) -> Hub {
    let content = fs::read(golden("bundles").join(BUNDLE).join(GRAPH)).unwrap();
    let hash = sha256(&content);
    Hub::troubled(BUNDLE, move |request, before| {
        faults.get(before).filter(|_| request.gets(&hash)).cloned()
    })
}

/// Fails unless nothing of the text graph can be taken for whole, and a second try, when all goes well, works.
fn assert_nothing_half_is_used(user: &User, hub: &Hub) {
    let blob = sha256(&hub.content(GRAPH));
    assert!(!user.blobs().contains(&blob), "{:?}", user.blobs());
    assert!(!user.snapshot().join(GRAPH).exists());
    assert_works(&user.embed_text());
    assert_eq!(
        fs::read(user.snapshot().join(GRAPH)).unwrap(),
        hub.content(GRAPH)
    );
}

/// The ranges of the text graph that were asked for.
fn ranges(hub: &Hub) -> Vec<Option<String>> {
    let hash = sha256(&hub.content(GRAPH));
    let log = hub.log();
    let gets = log
        .iter()
        .filter(|request| request.is_of_content && request.gets(&hash));
    gets.map(|request| request.header("range").map(str::to_owned))
        .collect()
}

#[test]
fn what_the_hub_does_not_have() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let run = |model: &str| {
        user.command(model, &["embed", "--text", "a cat"])
            .output()
            .unwrap()
    };
    assert_fails(
        &run("someone/else"),
        &[
            "someone/else could not be fetched: hub answered 404 (RepoNotFound) for /api/models/someone/else/revision/main",
            "hint: check owner, name and revision",
        ],
    );
    assert_fails(
        &run("someone/tiny@v9"),
        &["hub answered 404 (RevisionNotFound) for /api/models/someone/tiny/revision/v9"],
    );
    assert!(!user.repository().exists());
    hub.list("special_tokens_map.json.not");
    hub.list("onnx/text_model_int8.onnx");
    assert_fails(
        &user.run(&["--precision", "int8", "embed", "--text", "a cat"]),
        &[&format!(
            "hub answered 404 (EntryNotFound) for /someone/tiny/resolve/{COMMIT}/onnx/text_model_int8.onnx"
        )],
    );
}

#[test]
fn who_may_not_have_a_model() {
    let may = |request: &Request| request.header("authorization") == Some("Bearer hf_good");
    let hub = Hub::troubled(BUNDLE, move |request, _| {
        (!request.is_of_content && !may(request))
            .then_some(Fault::Status(401, "x-error-code: GatedRepo\r\n"))
    });
    let user = User::of(&hub);
    let with_token = |token: &str| {
        user.command(MODEL, &["embed", "--text", "a cat"])
            .env("HF_TOKEN", token)
            .output()
            .unwrap()
    };
    let refused = "hub answered 401 (GatedRepo) for /api/models/someone/tiny/revision/main";
    assert_fails(
        &user.embed_text(),
        &[
            refused,
            "hint: check the name; if not everyone may have the model, give a token",
        ],
    );
    let output = with_token("hf_bad");
    assert_fails(
        &output,
        &[
            refused,
            "whether the token in HF_TOKEN or in HF_HOME is valid",
        ],
    );
    assert!(!stderr(&output).contains("hf_bad"));
    // One kept by a login is found, and one in the environment comes first.
    fs::write(user.home.path().join("token"), "hf_good\n").unwrap();
    assert_fails(&with_token("hf_bad"), &[refused]);
    assert_works(&user.embed_text());
}

#[test]
fn a_token_goes_nowhere_else() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    assert_works(
        &user
            .command(MODEL, &["embed", "--text", "a cat"])
            .env("HF_TOKEN", "hf_secret")
            .output()
            .unwrap(),
    );
    let (of_content, of_hub): (Vec<_>, Vec<_>) = hub
        .log()
        .into_iter()
        .partition(|request| request.is_of_content);
    assert!(of_content.len() >= 2 && of_hub.len() > 5);
    assert_ne!(hub.contents, hub.endpoint);
    assert!(
        of_hub
            .iter()
            .all(|request| request.header("authorization") == Some("Bearer hf_secret"))
    );
    assert!(
        of_content
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn a_hub_that_wants_us_to_wait() {
    let hub = Hub::troubled(BUNDLE, |request, before| {
        (request.path.starts_with("/api/") && before < 2)
            .then_some(Fault::Status(429, "retry-after: 1\r\n"))
    });
    let user = User::of(&hub);
    let begun = Instant::now();
    let output = user.embed_text();
    assert_works(&output);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let said = stderr(&output);
    assert!(
        said.contains("hub answered 429 for /api/models/someone/tiny/revision/main: waiting 1 s"),
        "{said}"
    );
    // Nobody waits an hour.
    let hub = Hub::troubled(BUNDLE, |_, _| {
        Some(Fault::Status(429, "retry-after: 3600\r\n"))
    });
    let user = User::of(&hub);
    assert_fails(
        &user.embed_text(),
        &[
            "hub answered 429 for /api/models/",
            "hint: wait some minutes",
        ],
    );
    assert_eq!(hub.log().len(), 1);
}

#[test]
fn a_hub_that_stumbles() {
    let hub = Hub::troubled(BUNDLE, |request, before| {
        (before == 0 && request.method == "GET").then_some(Fault::Status(500, ""))
    });
    assert_works(&User::of(&hub).embed_text());
    let hub = Hub::troubled(BUNDLE, |_, _| Some(Fault::Status(503, "")));
    let output = User::of(&hub)
        .command(MODEL, &["embed", "--text", "a cat"])
        .output()
        .unwrap();
    assert_fails(
        &output,
        &[
            "hub answered 503 for /api/models/someone/tiny/revision/main",
            "hint: try again later",
        ],
    );
    assert_eq!(hub.log().len(), 5);
}

#[test]
fn no_hub_at_all() {
    let mut user = User::of(&Hub::with(BUNDLE));
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    user.endpoint = format!("http://{free}");
    assert_fails(
        &user.embed_text(),
        &[
            &user.endpoint,
            "does not answer for /api/models/someone/tiny/revision/main",
            "hint: check the network and HF_ENDPOINT",
        ],
    );
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let hub = with_faulty_graph(&[Fault::Cut(5000), Fault::Cut(7000)]);
    let user = User::of(&hub);
    assert_works(&user.embed_text());
    let from = |range: &str| Some(range.to_owned());
    assert_eq!(
        ranges(&hub),
        [None, from("bytes=5000-"), from("bytes=12000-")]
    );
    // A server that knows no ranges sends all of it again.
    let hub = with_faulty_graph(&[Fault::Cut(5000), Fault::Whole]);
    let user = User::of(&hub);
    assert_works(&user.embed_text());
    assert_eq!(ranges(&hub), [None, from("bytes=5000-")]);
    assert_eq!(
        fs::read(user.snapshot().join(GRAPH)).unwrap(),
        hub.content(GRAPH)
    );
}

#[test]
fn a_connection_that_breaks_for_good() {
    const CUT: Fault = Fault::Cut(0);
    let hub = with_faulty_graph(&[Fault::Cut(5000), CUT, CUT, CUT, CUT, CUT]);
    let user = User::of(&hub);
    let size = hub.content(GRAPH).len();
    assert_fails(
        &user.embed_text(),
        &[
            &format!("hub's answer for /someone/tiny/resolve/{COMMIT}/{GRAPH} cannot be used"),
            &format!("the connection breaks at byte 5000 of {size}"),
            "hint: try again later; what was fetched is kept",
        ],
    );
    assert_nothing_half_is_used(&user, &hub);
    assert_eq!(ranges(&hub).last().unwrap().as_deref(), Some("bytes=5000-"));
}

/// Bytes come each time, but never further.
#[test]
fn a_server_that_always_cuts_at_the_same_place() {
    const CUT: Fault = Fault::WholeCut(5000);
    let hub = with_faulty_graph(&[CUT, CUT, CUT, CUT, CUT, CUT]);
    let user = User::of(&hub);
    assert_fails(
        &user.embed_text(),
        &["the connection breaks at byte 5000 of"],
    );
    assert_nothing_half_is_used(&user, &hub);
}

#[test]
fn another_content_than_announced() {
    let hub = with_faulty_graph(&[Fault::Wrong]);
    let user = User::of(&hub);
    let hash = sha256(&hub.content(GRAPH));
    assert_fails(
        &user.embed_text(),
        &[
            &format!(
                "for /someone/tiny/resolve/{COMMIT}/{GRAPH} cannot be used: its content has the hash"
            ),
            &format!("expected {hash}"),
        ],
    );
    assert!(
        !user
            .blobs()
            .iter()
            .any(|name| name.ends_with(".incomplete"))
    );
    assert_nothing_half_is_used(&user, &hub);
    // A small file, which git's hash names.
    let hub = Hub::troubled(BUNDLE, |request, before| {
        (before == 0 && request.gets("/tokenizer_config.json")).then_some(Fault::Wrong)
    });
    let user = User::of(&hub);
    let hash = git_sha1(&hub.content("tokenizer_config.json"));
    assert_fails(
        &user.embed_text(),
        &[
            "tokenizer_config.json cannot be used",
            &format!("expected {hash}"),
        ],
    );
    assert_works(&user.embed_text());
}

#[test]
fn what_an_earlier_program_left_may_be_damaged() {
    let hub = Hub::with(BUNDLE);
    for (left, asked) in [(vec![7; 3000], 2), (vec![7; 1 << 20], 1)] {
        let user = User::of(&hub);
        let before = ranges(&hub).len();
        fs::create_dir_all(user.repository().join("blobs")).unwrap();
        let name = format!("blobs/{}.incomplete", sha256(&hub.content(GRAPH)));
        fs::write(user.repository().join(name), left).unwrap();
        assert_works(&user.embed_text());
        assert_eq!(
            fs::read(user.snapshot().join(GRAPH)).unwrap(),
            hub.content(GRAPH)
        );
        assert_eq!(ranges(&hub).len() - before, asked);
    }
}

#[test]
fn a_content_without_end() {
    let hub = with_faulty_graph(&[Fault::Endless]);
    let user = User::of(&hub);
    let size = hub.content(GRAPH).len();
    assert_fails(
        &user.embed_text(),
        &[&format!(
            "more than the {size} bytes come that were announced"
        )],
    );
    assert!(
        !user
            .blobs()
            .iter()
            .any(|name| name.ends_with(".incomplete"))
    );
    assert_nothing_half_is_used(&user, &hub);
    let hub = Hub::troubled(BUNDLE, |request, _| {
        request.path.starts_with("/api/").then_some(Fault::Endless)
    });
    assert_fails(
        &User::of(&hub).embed_text(),
        &["the list of files is longer than 16777216 bytes"],
    );
}

#[test]
fn redirects_in_a_ring() {
    let hub = Hub::troubled(BUNDLE, |request, _| {
        request
            .path
            .contains(GRAPH)
            .then(|| Fault::Redirect(request.path.clone()))
    });
    let user = User::of(&hub);
    assert_fails(
        &user.embed_text(),
        &[&format!(
            "hub's answer for /someone/tiny/resolve/{COMMIT}/{GRAPH} cannot be used: it redirects more than 5 times"
        )],
    );
    assert!(!user.snapshot().join(GRAPH).exists());
}

#[test]
fn a_model_that_has_moved_is_followed() {
    let hub = Hub::troubled(BUNDLE, |request, _| {
        let moved = request.path.replace("someone/old", MODEL);
        (moved != request.path).then_some(Fault::Redirect(moved))
    });
    let user = User::of(&hub);
    let output = user
        .command("someone/old", &["embed", "--text", "a cat"])
        .env("HF_TOKEN", "hf_secret")
        .output()
        .unwrap();
    assert_works(&output);
    // It is the same server, which may have to be told again who asks.
    assert!(
        hub.log()
            .iter()
            .filter(|request| !request.is_of_content)
            .all(|request| request.header("authorization").is_some())
    );
}

#[test]
fn names_that_lead_out_of_the_folder() {
    let hub = Hub::with(BUNDLE);
    hub.list("../../../../evil.onnx");
    let user = User::of(&hub);
    assert_fails(
        &user.embed_text(),
        &[
            "hub's answer for /api/models/someone/tiny/revision/main cannot be used",
            "the file name \"../../../../evil.onnx\" leads out of the model's folder",
            "hint: do not use this model",
        ],
    );
    assert!(!user.repository().exists());
}

/// A field of a protobuf message: its number and its content, of fewer than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128);
    [&[number << 3 | 2, length], content].concat()
}

#[test]
fn weights_that_lie_out_of_the_folder() {
    let location = |file: &str| [field(1, b"location"), field(2, file.as_bytes())].concat();
    let graph = |file: &str| field(7, &field(5, &field(13, &location(file))));
    let hub = Hub::with(BUNDLE);
    hub.replace(GRAPH, graph("../../../../../evil"));
    let user = User::of(&hub);
    assert_fails(
        &user.embed_text(),
        &[
            "its weights are in \"../../../../../evil\", which leads out of the model's folder",
            "hint: do not use this model",
        ],
    );
    // Weights that the hub does not have.
    let hub = Hub::with(BUNDLE);
    hub.replace(GRAPH, graph("weights"));
    assert_fails(
        &User::of(&hub).embed_text(),
        &[&format!(
            "hub answered 404 (EntryNotFound) for /someone/tiny/resolve/{COMMIT}/onnx/weights"
        )],
    );
}

/// What a file may grow to stands for a disk that is full: in both cases the system refuses to write.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let program = user.command(MODEL, &["embed", "--text", "a cat"]);
    let mut limited = std::process::Command::new("sh");
    // In blocks of 512 bytes: less than the graph has, more than any config.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.output().unwrap();
    assert_fails(&output, &[".incomplete: cannot be written"]);
    assert!(
        !user
            .blobs()
            .iter()
            .any(|name| *name == sha256(&hub.content(GRAPH)))
    );
    assert_works(&user.embed_text());
}

/// The program on a disk of its own, which only a user who may mount one has.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the right to mount"]
fn a_full_disk_is_said_and_nothing_half_is_used() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let program = user.command(MODEL, &["embed", "--text", "a cat"]);
    let mut mounted = std::process::Command::new("unshare");
    let script =
        "mount -t tmpfs -o size=96k tmpfs \"$HF_HOME\" && \"$0\" \"$@\" >&2; echo \"ended $?\" >&2
        mount -o remount,size=16m \"$HF_HOME\" && ls -R \"$HF_HOME\" >&2; exec \"$0\" \"$@\"";
    mounted
        .args(["-m", "sh", "-c", script])
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => mounted.env(name, value),
            None => mounted.env_remove(name),
        };
    }
    let output = mounted.output().unwrap();
    assert_works(&output);
    let said = stderr(&output);
    assert!(
        said.contains(".incomplete: cannot be written: No space left on device"),
        "{said}"
    );
    assert!(said.contains("ended 2"), "{said}");
    let hash = sha256(&hub.content(GRAPH));
    assert!(
        said.lines()
            .any(|line| line == format!("{hash}.incomplete")),
        "{said}"
    );
    assert!(!said.lines().any(|line| line == hash), "{said}");
    assert!(ranges(&hub).last().unwrap().is_some(), "{:?}", ranges(&hub));
}

#[test]
fn two_programs_fetch_once() {
    let hub = Hub::troubled(BUNDLE, |request, _| {
        request.is_of_content.then_some(Fault::Slow)
    });
    let user = User::of(&hub);
    let start = || {
        user.command(MODEL, &["embed", "--text", "a cat"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let outputs = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());
    let rows = outputs.each_ref().map(assert_works);
    assert!(rows[0] == rows[1] && rows[1] == rows[2]);
    assert_eq!(ranges(&hub), [None]);
    let waited = outputs
        .iter()
        .filter(|output| stderr(output).contains("waiting for another program that fetches"))
        .count();
    assert!(waited >= 1);
}

/// Waits until a program has written a part of the text graph, no more.
fn wait_for_a_part(user: &User, hub: &Hub, child: &mut Child) {
    let name = format!("blobs/{}.incomplete", sha256(&hub.content(GRAPH)));
    let partial = user.repository().join(name);
    let size = hub.content(GRAPH).len() as u64;
    loop {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        if fs::metadata(&partial).is_ok_and(|metadata| (8192..size / 2).contains(&metadata.len())) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_program_that_is_killed_is_taken_up_where_it_was() {
    let hub = with_faulty_graph(&[Fault::Slow]);
    let user = User::of(&hub);
    let mut child = user
        .command(MODEL, &["embed", "--text", "a cat"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_a_part(&user, &hub, &mut child);
    // A model that is being fetched is not removed: what another program began anew would get the name of the whole.
    assert_fails(
        &user
            .command(MODEL, &["models", "rm", MODEL])
            .output()
            .unwrap(),
        &["another program is fetching this model"],
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_half_is_used(&user, &hub);
    let ranges = ranges(&hub);
    let from: u64 = ranges[1].as_deref().unwrap()["bytes=".len()..]
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!(ranges.len() == 2 && from >= 8192, "{ranges:?}");
}
