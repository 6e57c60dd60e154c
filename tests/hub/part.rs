//! Caches that other programs filled with a part of a model: what is asked of the hub, and what is said where it cannot
//! be asked.

use super::server::Fault;
use super::*;

/// A text that is longer than the length that nomic-text's sentence_bert_config.json states.
const LONG: &str = "a cat and a dog and a bird and a fish and a tree and a house and a car and a boat and a road and \
                    a river and a bridge and a hill and a cloud";

const EMBED: [&str; 3] = ["embed", "--text", LONG];

/// A user whose cache has the model of the hub, filled by another program, but for `missing`.
fn user_with_part(hub: &Hub, bundle: &str, missing: &[&str]) -> User {
    let user = User::of(hub);
    write_as_python(&user.home.path().join("hub"), bundle);
    for name in missing {
        fs::remove_file(user.snapshot().join(name)).unwrap();
    }
    user
}

/// A hub where each request is answered so.
fn always(bundle: &str, status: u16, headers: &'static str) -> Hub {
    Hub::troubled(bundle, move |_, _| Some(Fault::Status(status, headers)))
}

/// A port that was free a moment ago.
fn nowhere() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

/// The paths that were asked for, once each and in order.
fn asked(hub: &Hub) -> Vec<String> {
    let mut paths: Vec<String> = hub.log().into_iter().map(|request| request.path).collect();
    paths.dedup();
    paths
}

fn list_of(model: &str) -> String {
    format!("/api/models/{model}/revision/{COMMIT}")
}

fn file_of(model: &str, name: &str) -> String {
    format!("/{model}/resolve/{COMMIT}/{name}")
}

/// The lines of what was said that name configs which nobody could look for.
fn notices(output: &Output) -> Vec<String> {
    let said = stderr(output);
    let lines = said.lines().filter(|line| line.contains("looked for"));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_config_that_is_missing_is_fetched() {
    for (bundle, missing) in [
        (BUNDLE, &["special_tokens_map.json"][..]),
        (BUNDLE, &["tokenizer_config.json"]),
        (BUNDLE, &["config.json"]),
        ("open-clip", &["special_tokens_map.json"]),
        ("immich", &["textual/tokenizer_config.json"]),
        ("nomic-text", &["1_Pooling/config.json"]),
        ("nomic-text", &["modules.json", "sentence_bert_config.json"]),
    ] {
        let hub = Hub::with(bundle);
        let user = user_with_part(&hub, bundle, missing);
        let expected = of_folder(&user, bundle, &EMBED);
        let output = user.run(&EMBED);
        assert_eq!(assert_works(&output), expected, "{bundle}: {missing:?}");
        assert_eq!(notices(&output), [""; 0]);
        // The contents were there, so that a link was enough.
        let mut requests = vec![list_of(MODEL)];
        requests.extend(missing.iter().map(|name| file_of(MODEL, name)));
        let mut found = asked(&hub);
        found[1..].sort();
        assert_eq!(found, requests, "{bundle}");
        assert_eq!(hub.log().len(), requests.len());
        // The list is kept: from now on nothing is asked, and nothing said.
        for offline in [&[][..], &["--offline"]] {
            let output = user.run(&[&EMBED[..], offline].concat());
            assert_eq!(assert_works(&output), expected);
            assert_eq!(notices(&output), [""; 0]);
        }
        assert_eq!(hub.log().len(), requests.len());
    }
}

/// The hub has no configs of sentence-transformers beside a CLIP, which only its list tells.
#[test]
fn what_the_hub_lacks_too_is_asked_for_once() {
    let hub = Hub::with(BUNDLE);
    let user = user_with_part(&hub, BUNDLE, &[]);
    // What is noted is not written again: nobody may be allowed to.
    let noted = user.repository().join("refs/main");
    let before = format!("{COMMIT}\n");
    fs::write(&noted, &before).unwrap();
    for _ in 0..2 {
        let output = user.run(&EMBED);
        assert_eq!(assert_works(&output), of_folder(&user, BUNDLE, &EMBED));
        assert_eq!(notices(&output), [""; 0]);
        assert_eq!(asked(&hub), [list_of(MODEL)]);
        assert_eq!(hub.log().len(), 1);
        assert_eq!(fs::read_to_string(&noted).unwrap(), before);
    }
}

#[test]
fn where_the_hub_is_out_of_reach_what_is_there_is_taken_and_said() {
    let missing = ["modules.json", "sentence_bert_config.json"];
    let hub = always("nomic-text", 503, "retry-after: 0\r\n");
    for (endpoint, why) in [
        (nowhere(), "does not answer for /api/models/someone/tiny/"),
        (
            hub.endpoint.clone(),
            "hub answered 503 for /api/models/someone/tiny/",
        ),
    ] {
        let mut user = user_with_part(&hub, "nomic-text", &missing);
        user.endpoint = endpoint;
        let output = user.run(&EMBED);
        let folder = user.snapshot();
        let of_part = user
            .command(folder.to_str().unwrap(), &EMBED)
            .output()
            .unwrap();
        assert_eq!(assert_works(&output), assert_works(&of_part));
        // Which is what the notice is for.
        assert_ne!(
            assert_works(&output),
            of_folder(&user, "nomic-text", &EMBED)
        );
        let notices = notices(&output);
        assert_eq!(notices.len(), 1, "{notices:?}");
        let expected = "diptych: someone/tiny: used as it is in the cache; rows may differ if the hub has \
                        sentence_bert_config.json, modules.json, which could not be looked for: ";
        assert!(notices[0].starts_with(expected), "{notices:?}");
        assert!(notices[0].contains(why), "{notices:?}");
        assert_eq!(stderr(&user.run(&[&["--quiet"], &EMBED[..]].concat())), "");
        // What does not open cannot be taken.
        fs::remove_file(user.snapshot().join("tokenizer.json")).unwrap();
        assert_fails(
            &user.run(&EMBED),
            &["someone/tiny could not be fetched", why],
        );
    }
}

#[test]
fn what_a_hub_refuses_is_not_passed_over() {
    for (status, headers, said) in [
        (
            401,
            "x-error-code: GatedRepo\r\n",
            "hub answered 401 (GatedRepo)",
        ),
        (
            404,
            "x-error-code: RepoNotFound\r\n",
            "hub answered 404 (RepoNotFound)",
        ),
    ] {
        let hub = always("nomic-text", status, headers);
        let user = user_with_part(&hub, "nomic-text", &["modules.json"]);
        assert_fails(&user.run(&EMBED), &[said]);
        assert_eq!(hub.log().len(), 1);
    }
}

#[test]
fn offline_what_is_there_is_taken_and_said() {
    let hub = Hub::with("nomic-text");
    let user = user_with_part(&hub, "nomic-text", &["sentence_bert_config.json"]);
    let expected = [
        "diptych: someone/tiny: used as it is in the cache; rows may differ if the hub has sentence_bert_config.json, \
         which could not be looked for: fetching is turned off",
    ];
    let output = user.run(&[&["--offline"], &EMBED[..]].concat());
    assert_works(&output);
    assert_eq!(notices(&output), expected);
    for name in ["HF_HUB_OFFLINE", "DIPTYCH_OFFLINE"] {
        let output = user.command(MODEL, &EMBED).env(name, "1").output().unwrap();
        assert_works(&output);
        assert_eq!(notices(&output), expected);
    }
    assert_eq!(hub.log(), []);
}

#[test]
fn one_of_two_places_is_enough() {
    let hub = Hub::with("vision-dinov2");
    let user = user_with_part(&hub, "vision-dinov2", &[]);
    let embed = ["embed", &photo()];
    let expected = of_folder(&user, "vision-dinov2", &embed);
    assert_eq!(assert_works(&user.run(&embed)), expected);
    // As transformers 5 saves it.
    let first = user.snapshot().join("preprocessor_config.json");
    let content = fs::read_to_string(&first).unwrap();
    fs::remove_file(first).unwrap();
    let second = user.snapshot().join("processor_config.json");
    fs::write(second, format!("{{\"image_processor\": {content}}}")).unwrap();
    let output = user.run(&embed);
    assert_eq!(assert_works(&output), expected);
    assert_eq!(notices(&output), [""; 0]);
    assert_eq!(hub.log(), []);
    // Neither, or no config of the model: asked for.
    for missing in ["preprocessor_config.json", "config.json"] {
        let hub = Hub::with("vision-dinov2");
        let user = user_with_part(&hub, "vision-dinov2", &[missing]);
        assert_eq!(assert_works(&user.run(&embed)), expected);
        assert_eq!(asked(&hub), [list_of(MODEL), file_of(MODEL, missing)]);
    }
}

#[test]
fn two_models_as_one() {
    const TEXT: &str = "someone/words";
    let hub = Hub::with("nomic-vision");
    hub.add(TEXT, "nomic-text");
    let pair = format!("{MODEL}+{TEXT}");
    let folders = ["nomic-vision", "nomic-text"].map(|bundle| golden("bundles").join(bundle));
    let folders = folders
        .map(|folder| folder.to_str().unwrap().to_owned())
        .join("+");
    let photo = photo();
    let embed = ["embed", &photo, "--text", LONG];
    let run = |user: &User, model: &str| user.command(model, &embed).output().unwrap();
    let user = User::of(&hub);
    let expected = assert_works(&run(&user, &folders));
    assert_eq!(assert_works(&run(&user, &pair)), expected);
    let fetched = asked(&hub);
    for path in [
        file_of(MODEL, "preprocessor_config.json"),
        file_of(TEXT, "1_Pooling/config.json"),
        file_of(TEXT, "modules.json"),
        file_of(TEXT, "sentence_bert_config.json"),
    ] {
        assert!(fetched.contains(&path), "no {path} in {fetched:?}");
    }
    assert_eq!(assert_works(&run(&user, &pair)), expected);
    assert_eq!(asked(&hub), fetched);
    // Filled by another program: the half that is whole is not asked for.
    let before = hub.log().len();
    let user = User::of(&hub);
    let root = user.home.path().join("hub");
    write_as_python(&root, "nomic-vision");
    write_model_as_python(&root, TEXT, "nomic-text");
    let missing = "sentence_bert_config.json";
    let snapshot = root.join("models--someone--words/snapshots").join(COMMIT);
    fs::remove_file(snapshot.join(missing)).unwrap();
    assert_eq!(assert_works(&run(&user, &pair)), expected);
    let later: Vec<String> = hub
        .log()
        .split_off(before)
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(later, [list_of(TEXT), file_of(TEXT, missing)]);
}
