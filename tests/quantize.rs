//! Smaller bundles: every layout in every form opens, stays near what it was and keeps rows apart from their batch; what
//! cannot be quantised is refused, and leaves nothing.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{EXACT, assert_all_close, copy_bundle, golden, list, root, stderr};
use diptych::quantize::{Draft, Quantization};
use diptych::verify::{Record, cost};
use diptych::{
    Bundle, BundleOptions, DualEncoder, EncoderOptions, Error, ImageOptions, open_image,
};
use serde_json::Value;

/// The bundle whose weights are f16.
const HALF: &str = "transformers-clip-f16";

/// The lowest cosine that rows of the golden bundles may have with what they were. Their weights are random, which is
/// harder than trained ones.
fn bound(to: Quantization) -> f64 {
    match to {
        Quantization::Fp16 => 0.99999,
        Quantization::Q8Block | Quantization::Int8 => 0.99,
    }
}

fn bundles() -> Vec<String> {
    let all = list(&golden("expected/bundles.json"));
    let names = all.iter().map(|about| about["bundle"].as_str().unwrap());
    let names: Vec<String> = names.filter(|name| *name != HALF).map(Into::into).collect();
    assert!(names.len() >= 14);
    names
}

fn quantize(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diptych"))
        .env_remove("DIPTYCH_MODEL")
        .env_remove("DIPTYCH_PRECISION")
        .env_remove("DIPTYCH_LANGUAGE")
        .env_remove("DIPTYCH_PREFIX")
        .arg("quantize")
        .args(arguments)
        .output()
        .unwrap()
}

/// The names of all files in a folder, with those in its folders.
fn names(folder: &Path) -> Vec<String> {
    let files = walkdir::WalkDir::new(folder).sort_by_file_name();
    let files = files.into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    let name = |entry: walkdir::DirEntry| {
        let name = entry.path().strip_prefix(folder).unwrap();
        name.to_str().unwrap().replace('\\', "/")
    };
    files.map(name).collect()
}

/// Rows alone and beside others.
fn assert_steady(encoder: &DualEncoder, what: &str) {
    if encoder.image_tower().is_ok() {
        let names = ["cat.jpg", "bee.jpg", "rocket.jpg"];
        let open = |name| open_image(root("assets/photos").join(name), &ImageOptions::default());
        let images = names.map(|name| open(name).unwrap());
        let together = encoder.encode_images(&images).unwrap();
        for (place, image) in images.iter().enumerate() {
            let alone = encoder.encode_images(std::slice::from_ref(image)).unwrap();
            assert_all_close(&alone, &together.select(&[place]), EXACT, what);
        }
    }
    if encoder.text_tower().is_ok() {
        let texts = ["a cat", "", "two dogs on a red bench, in the rain", "7"];
        let together = encoder.encode_texts(&texts).unwrap();
        for (place, text) in texts.iter().enumerate() {
            let alone = encoder.encode_texts(&[text]).unwrap();
            assert_all_close(&alone, &together.select(&[place]), EXACT, what);
        }
    }
}

fn every_bundle(to: Quantization) {
    for name in bundles() {
        let what = format!("{name} as {}", to.name());
        let bundle = Bundle::open(golden("bundles").join(&name)).unwrap();
        let open = |bundle| DualEncoder::from_bundle(bundle, &EncoderOptions::default()).unwrap();
        let before = Record::of(&open(bundle.clone())).unwrap();
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("small");
        let draft = Draft::make(&bundle, to, &folder, false).unwrap();
        assert!(!folder.exists(), "{what}: has its name before it is whole");
        for graph in draft.graphs() {
            // Of tiny weights, new nodes and whole pages of data files may take what is saved; the bundled model's
            // sizes are looked at beside `quantize`.
            assert!(graph.after < graph.before + 16384, "{what}: {graph:?}");
        }
        assert_eq!(draft.finish().unwrap(), folder);
        let siblings = fs::read_dir(work.path()).unwrap().count();
        assert_eq!(siblings, 1, "{what}: something is left");

        let small = open(Bundle::open(&folder).unwrap());
        assert_eq!(small.bundle().layout, bundle.layout, "{what}");
        assert_eq!(small.bundle().head, bundle.head, "{what}");
        let after = Record::of(&small).unwrap();
        let cost = cost(&before, &after).unwrap();
        assert!(cost.lowest() >= bound(to), "{what}: {cost:?}");
        assert!(cost.lowest() < 1.0, "{what}: nothing was quantised");
        assert_eq!(cost.images.is_some(), bundle.image.is_some(), "{what}");
        assert_eq!(cost.texts.is_some(), bundle.text.is_some(), "{what}");
        assert_steady(&small, &what);

        let again = Draft::make(small.bundle(), to, &work.path().join("again"), false);
        assert!(
            matches!(again, Err(Error::Quantized { .. })),
            "{what}: {again:?}"
        );
        assert!(!work.path().join("again").exists(), "{what}");
    }
}

#[test]
fn every_bundle_in_int8() {
    every_bundle(Quantization::Int8);
}

#[test]
fn every_bundle_in_blocks() {
    every_bundle(Quantization::Q8Block);
}

#[test]
fn every_bundle_in_halves() {
    every_bundle(Quantization::Fp16);
}

#[test]
fn the_program_says_what_it_made_and_what_it_costs() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let folder = folder.to_str().unwrap();
    let model = golden("bundles/transformers-clip");
    let model = model.to_str().unwrap();
    let output = quantize(&[model, "--to", "int8", "-o", folder]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    for part in [
        "onnx/text_model_int8.onnx: 168.16 kB -> ",
        "onnx/vision_model_int8.onnx: ",
        "weights: 8 bits ",
        "image rows: cosine 0.99",
        "text rows: cosine 0.99",
        "best captions: ",
        &format!("to be used with --model {folder}\n"),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let mut expected = names(&golden("bundles/transformers-clip"));
    for name in &mut expected {
        *name = name.replace(".onnx", "_int8.onnx");
    }
    assert_eq!(names(Path::new(folder)), expected);
}

#[test]
fn what_is_not_good_enough_is_written_and_said() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let folder = folder.to_str().unwrap();
    let model = golden("bundles/siglip");
    let arguments = [
        model.to_str().unwrap(),
        "--to",
        "int8",
        "-o",
        folder,
        "--json",
    ];
    let output = quantize(&[&arguments[..], &["--min-cosine", "0.99999"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("expected 0.99999 or more"));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["holds"], false);
    assert_eq!(line["to"], "int8");
    assert_eq!(line["precision"], Value::Null);
    assert_eq!(line["photos"], 6);
    let shares = ["in_8_bits", "in_16_bits", "as_before"];
    let shares = shares.map(|share| line["weights"][share].as_f64().unwrap());
    assert!(
        shares.iter().all(|share| (0.0..1.0).contains(share)),
        "{line}"
    );
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{line}");
    assert!(shares[0] > 0.5, "{line}");
    for half in ["images", "texts"] {
        let lowest = line[half]["lowest_cosine"].as_f64().unwrap();
        assert!((0.99..0.99999).contains(&lowest), "{line}");
        assert!(line[half]["mean_cosine"].as_f64().unwrap() >= lowest);
    }
    assert!(Bundle::open(folder).is_ok());
}

#[test]
fn what_cannot_be_quantised_leaves_nothing() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let folder = folder.to_str().unwrap();
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let model = path(golden("bundles/siglip"));
    let file = work.path().join("file");
    fs::write(&file, "").unwrap();
    let under_a_file = path(file.join("small"));
    let cut = copy_bundle("siglip");
    let graph = cut.path().join("onnx/text_model.onnx");
    let bytes = fs::read(&graph).unwrap();
    fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    let cut = path(cut.path().to_owned());
    let without_end = copy_bundle("transformers-clip-external");
    let data = without_end.path().join("onnx/vision_model.onnx_data");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() / 2]).unwrap();
    let cut_data = without_end.path().to_owned();
    for (arguments, said) in [
        (
            [
                &*path(golden("bundles").join(HALF)),
                "--to",
                "int8",
                "-o",
                folder,
            ],
            "weights of float16, expected float32",
        ),
        (
            [&*path(root("onnx/tiny")), "--to", "fp16", "-o", folder],
            "weights of int8, expected float32",
        ),
        (
            [&*path(cut_data), "--to", "int8", "-o", folder],
            "vision_model.onnx_data: graph cannot be loaded: the graph has weights in it beyond its end",
        ),
        (
            [
                &*path(work.path().join("none")),
                "--to",
                "int8",
                "-o",
                folder,
            ],
            "there is no such folder",
        ),
        (
            [&*path(golden("images")), "--to", "int8", "-o", folder],
            "not a model bundle",
        ),
        (
            [&*model, "--to", "q3", "-o", folder],
            "possible values: int8, q8-block, fp16",
        ),
        (
            [&*model, "--to", "int8", "-o", &*model],
            "that is the model's own folder",
        ),
        (
            [&*model, "--to", "int8", "-o", &*path(file.clone())],
            "there is something already",
        ),
        (
            [&*model, "--to", "int8", "-o", &*under_a_file],
            "cannot be written",
        ),
        ([&*cut, "--to", "int8", "-o", folder], "damaged or cut off"),
    ] {
        let output = quantize(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(said),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(names(work.path()), ["file"], "{arguments:?}");
    }
}

#[test]
fn of_the_bundled_model_no_other_precision_is_named() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let output = quantize(&["--to", "int8", "-o", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("the bundled model has weights of int8 already"),
        "{said}"
    );
    assert!(!said.contains("--precision"), "{said}");
}

#[test]
fn a_folder_that_is_there_is_written_into_by_force_alone() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let to = folder.to_str().unwrap();
    let model = golden("bundles/siglip");
    let model = model.to_str().unwrap();
    assert!(
        quantize(&[model, "--to", "fp16", "-o", to])
            .status
            .success()
    );
    let half = fs::read(folder.join("onnx/text_model_fp16.onnx")).unwrap();
    fs::write(folder.join("mine.txt"), "mine").unwrap();

    let refused = quantize(&[model, "--to", "int8", "-o", to]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("there is something already"));
    assert!(!folder.join("onnx/text_model_int8.onnx").exists());

    let forced = quantize(&[model, "--to", "int8", "-o", to, "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    let said = String::from_utf8(forced.stdout).unwrap();
    assert!(said.contains("--precision int8"), "{said}");
    assert_eq!(fs::read_to_string(folder.join("mine.txt")).unwrap(), "mine");
    assert_eq!(
        fs::read(folder.join("onnx/text_model_fp16.onnx")).unwrap(),
        half
    );
    assert!(folder.join("onnx/text_model_int8.onnx").is_file());
    assert!(!names(&folder).iter().any(|name| name.contains("partial")));
}

/// What a caller asks for of texts holds before and after.
#[test]
fn a_language_and_a_prefix_cost_nothing() {
    for (name, option) in [
        ("nllb-clip", ["--language", "fra_Latn"]),
        ("siglip", ["--prefix", "this is a photo of "]),
    ] {
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("small");
        let model = golden("bundles").join(name);
        let model = model.to_str().unwrap();
        let to = ["--to", "fp16", "--json", "-o", folder.to_str().unwrap()];
        let output = quantize(&[&[model][..], &option, &to].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        let lowest = line["texts"]["lowest_cosine"].as_f64().unwrap();
        assert!(lowest > 0.99999, "{name}: {line}");
    }
}

/// Rows are as wide as they were, and what no file states is said of both.
#[test]
fn a_draft_is_opened_as_its_model_was() {
    let work = tempfile::tempdir().unwrap();
    let options = BundleOptions {
        dim: Some(8),
        prefix: Some("photo: ".to_owned()),
        ..Default::default()
    };
    let bundle = Bundle::open_with(golden("bundles/siglip"), &options).unwrap();
    let folder = work.path().join("small");
    let draft = Draft::make(&bundle, Quantization::Fp16, &folder, false).unwrap();
    let new = draft.bundle().unwrap();
    assert_eq!(new.dim, Some(8));
    assert_eq!(new.unstated, bundle.unstated);
    assert_eq!(new.text.unwrap().text.prefix, "photo: ");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_there_is_not_replaced() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o2770)).unwrap();
    let link = work.path().join("link");
    symlink(&folder, &link).unwrap();
    let known = || {
        let metadata = fs::metadata(&folder).unwrap();
        (metadata.ino(), metadata.mode())
    };
    let before = known();
    let model = golden("bundles/transformers-clip");
    let model = fs::canonicalize(model).unwrap();
    let model = model.to_str().unwrap();
    for to in [folder.to_str().unwrap(), link.to_str().unwrap(), "."] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
        command.current_dir(&folder).arg("quantize");
        command.args([model, "--to", "fp16", "-o", to]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{to}: {}", stderr(&output));
        assert_eq!(known(), before, "{to}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(folder.join("onnx/text_model_fp16.onnx").is_file(), "{to}");
        let entries = fs::read_dir(&folder).unwrap().map(Result::unwrap);
        for path in entries.map(|entry| entry.path()) {
            let name = path.to_string_lossy();
            assert!(!name.contains("partial"), "{name}");
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
    }
}

#[test]
fn of_two_runs_into_one_folder_one_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let bundle = Bundle::open(golden("bundles/siglip")).unwrap();
    let make = |folder: &Path| Draft::make(&bundle, Quantization::Fp16, folder, false);
    let new = work.path().join("new");
    let (first, second) = (make(&new).unwrap(), make(&new).unwrap());
    first.finish().unwrap();
    let before = names(&new);
    let lost = second.finish();
    assert!(matches!(lost, Err(Error::Occupied { .. })), "{lost:?}");
    assert_eq!(names(&new), before);

    let empty = work.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let first = make(&empty).unwrap();
    let second = make(&empty);
    assert!(matches!(second, Err(Error::Occupied { .. })), "{second:?}");
    fs::write(empty.join("mine.txt"), "mine").unwrap();
    let lost = first.finish();
    assert!(matches!(lost, Err(Error::Occupied { .. })), "{lost:?}");
    assert_eq!(names(&empty), ["mine.txt"]);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 2);
}

/// What interrupted runs leave is removed by the next one; what living ones hold and what others made is not.
#[test]
fn what_interrupted_runs_left_is_removed() {
    let work = tempfile::tempdir().unwrap();
    let bundle = Bundle::open(golden("bundles/siglip")).unwrap();
    let make = |folder: &Path| Draft::make(&bundle, Quantization::Fp16, folder, true);
    let [new, there] = ["new", "there"].map(|name| work.path().join(name));
    fs::create_dir(&there).unwrap();
    let left = [
        work.path().join("new.7.partial"),
        work.path().join("there.8.partial"),
        there.join(".diptych.9.partial"),
    ];
    let others = [
        work.path().join("new.old.partial"),
        work.path().join("new.6.partial"),
        there.join("small.5.partial"),
    ];
    for folder in left.iter().chain(&others) {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("part"), "part").unwrap();
        // One that a user made has no lock, another has not the name.
        if !folder.ends_with("new.6.partial") {
            fs::write(folder.join("diptych.lock"), "").unwrap();
        }
    }
    let first = [make(&new).unwrap(), make(&there).unwrap()];
    for folder in &left {
        assert!(!folder.exists(), "{}", folder.display());
    }
    let second = [make(&new).unwrap(), make(&there).unwrap()];
    drop(second);
    for folder in &others {
        assert_eq!(fs::read_to_string(folder.join("part")).unwrap(), "part");
    }
    for draft in first {
        assert!(draft.bundle().is_ok(), "one that lives was removed");
        draft.finish().unwrap();
    }
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 4);
}

/// Where the new graph lies until it has its name is of no use to anyone afterwards.
#[test]
fn errors_name_files_as_they_will_be() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let bundle = Bundle::open(golden("bundles/siglip")).unwrap();
    let draft = Draft::make(&bundle, Quantization::Fp16, &folder, false).unwrap();
    let graph = draft.bundle().unwrap().text.unwrap().graph;
    fs::write(&graph, "no graph").unwrap();
    let open = |bundle| DualEncoder::from_bundle(bundle, &EncoderOptions::default());
    let opened = draft.bundle().and_then(open);
    let said = draft.named(opened.unwrap_err()).to_string();
    let name = folder.join("onnx/text_model_fp16.onnx");
    assert!(said.contains(name.to_str().unwrap()), "{said}");
    assert!(!said.contains("partial"), "{said}");
}

#[test]
fn data_files_stay_data_files() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("small");
    let bundle = Bundle::open(golden("bundles/transformers-clip-external")).unwrap();
    let draft = Draft::make(&bundle, Quantization::Int8, &folder, false).unwrap();
    draft.finish().unwrap();
    let small = Bundle::open(&folder).unwrap();
    let data = folder.join("onnx/vision_model_int8.onnx_data");
    assert!(small.files.contains(&data), "{:?}", small.files);
    let graph = fs::metadata(folder.join("onnx/vision_model_int8.onnx")).unwrap();
    let beside = fs::metadata(data).unwrap();
    assert!(
        beside.len() > 10_000 && graph.len() < 50_000,
        "{}",
        graph.len()
    );
}

/// Runs the program by a shell script, which has it as `"$0" "$@"`.
#[cfg(unix)]
fn quantize_by(shell: &[&str], script: &str, folder: &Path) -> Output {
    let model = golden("bundles/transformers-clip");
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script]);
    command.env_remove("DIPTYCH_MODEL").env("FOLDER", folder);
    command.arg(env!("CARGO_BIN_EXE_diptych")).arg("quantize");
    command.arg(model).args(["--to", "fp16", "-o"]);
    command.arg(folder.join("small")).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_graph_that_cannot_be_written_whole_leaves_nothing() {
    let work = tempfile::tempdir().unwrap();
    // In blocks of 512 bytes: less than a graph has.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let output = quantize_by(&["sh"], script, work.path());
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("small/onnx/text_model_fp16.onnx: cannot be written"),
        "{said}"
    );
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
}

/// The program on a disk of its own, which only a user who may mount one has.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the right to mount"]
fn a_full_disk_is_said_and_left_empty() {
    let work = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=96k tmpfs \"$FOLDER\" && \"$0\" \"$@\"; echo \"ended $?\"; ls -A \"$FOLDER\"";
    let output = quantize_by(&["unshare", "-m", "sh"], script, work.path());
    let said = stderr(&output);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ended 2\n");
}
