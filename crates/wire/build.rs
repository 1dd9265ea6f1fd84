//! Turns every `.proto` file under `contract/proto` into Rust, without protoc.
//!
//! All packages become prost types and, where they declare services, tonic clients and servers. Only the packages in
//! [`JSON_PACKAGES`] also get canonical JSON and are published through reflection: the others are Sortie's own stored
//! records, and [`AGONES`].

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Prefixes of the packages that are also sent as JSON.
const JSON_PACKAGES: [&str; 2] = [".catena", ".google.rpc"];

/// Agones's interface for game servers, which has another JSON form and is not one of our services: its messages have
/// all fields, with the names of the `.proto` file, and reflection does not show it.
const AGONES: &str = ".agones";

/// Messages of [`AGONES`] that are never sent as JSON on their own, and have fields for which pbjson has no JSON form.
const AGONES_WITHOUT_JSON: [&str; 3] = [
    ".agones.dev.sdk.beta.CounterUpdateRequest",
    ".agones.dev.sdk.beta.UpdateCounterRequest",
    ".agones.dev.sdk.beta.UpdateListRequest",
];

/// Written by hand, because prost's own has no JSON form.
const ANY: (&str, &str) = (".google.protobuf.Any", "crate::any::Any");

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../contract/proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut files = Vec::new();
    find_protos(&root, &mut files)?;
    files.sort();
    let set = protox::Compiler::new([&root])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?
        .file_descriptor_set();

    fs::write(out.join("descriptors.bin"), published(&set).encode_to_vec())?;
    fs::write(out.join("described.bin"), described(&set).encode_to_vec())?;
    write_types(set.clone())?;
    append_json(&set, &out)?;
    fs::write(out.join("any_codecs.rs"), any_codecs(&set))?;
    Ok(())
}

fn find_protos(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

fn has_json(file: &FileDescriptorProto) -> bool {
    let package = format!(".{}.", file.package());
    JSON_PACKAGES.iter().any(|prefix| package.starts_with(&format!("{prefix}.")))
}

/// The descriptors for reflection: the JSON packages and their imports, without comments.
fn published(set: &FileDescriptorSet) -> FileDescriptorSet {
    // A file comes after those that it imports.
    let mut imported = BTreeSet::new();
    for file in set.file.iter().rev() {
        if has_json(file) || imported.contains(file.name()) {
            imported.extend(file.dependency.iter().map(String::as_str));
        }
    }
    let shown = |file: &&FileDescriptorProto| has_json(file) || imported.contains(file.name());
    let bare = |file: &FileDescriptorProto| FileDescriptorProto { source_code_info: None, ..file.clone() };
    FileDescriptorSet { file: set.file.iter().filter(shown).map(bare).collect() }
}

/// The JSON packages with their comments, for descriptions.
fn described(set: &FileDescriptorSet) -> FileDescriptorSet {
    FileDescriptorSet { file: set.file.iter().filter(|file| has_json(file)).cloned().collect() }
}

fn write_types(set: FileDescriptorSet) -> io::Result<()> {
    let mut config = prost_build::Config::new();
    // Sorted maps: the same message always has the same bytes.
    config.btree_map(["."]);
    config.extern_path(ANY.0, ANY.1);
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    config.include_file("packages.rs");
    tonic_prost_build::configure().compile_fds_with_config(set, config)
}

/// Puts the serde implementations of a package at the end of the file that has its types.
fn append_json(set: &FileDescriptorSet, out: &Path) -> io::Result<()> {
    let mut builder = pbjson_build::Builder::new();
    builder.ignore_unknown_fields().btree_map(["."]).extern_path(ANY.0, ANY.1);
    for file in &set.file {
        builder.register_file_descriptor(file.clone());
    }
    let mut agones = pbjson_build::Builder::new();
    agones.ignore_unknown_fields().btree_map(["."]).emit_fields().preserve_proto_field_names();
    agones.exclude(AGONES_WITHOUT_JSON);
    for file in &set.file {
        agones.register_file_descriptor(file.clone());
    }
    let ours = builder.generate(&JSON_PACKAGES, |_| Ok(Vec::new()))?;
    for (package, code) in ours.into_iter().chain(agones.generate(&[AGONES], |_| Ok(Vec::new()))?) {
        let path = out.join(format!("{package}.rs"));
        let mut types = fs::read(&path)?;
        types.extend(code);
        fs::write(&path, types)?;
    }
    Ok(())
}

/// The arms that find the codec of a message by its full name, for the JSON form of `Any`.
///
/// Messages with an `Any` are left out, so that nesting cannot exhaust the stack.
fn any_codecs(set: &FileDescriptorSet) -> String {
    let messages: Vec<(String, Vec<&str>)> = set
        .file
        .iter()
        .filter(|file| has_json(file))
        .flat_map(|file| file.message_type.iter().map(move |message| (file, message)))
        .map(|(file, message)| {
            let parts = std::iter::once(message).chain(&message.nested_type);
            let fields = parts.flat_map(|part| &part.field).filter(|field| field.r#type() == Type::Message);
            (
                format!(".{}.{}", file.package(), message.name()),
                fields.map(FieldDescriptorProto::type_name).collect(),
            )
        })
        .collect();

    let mut holders = vec![ANY.0.to_owned()];
    let mut done = 0;
    while done < holders.len() {
        for (name, fields) in &messages {
            if fields.contains(&holders[done].as_str()) && !holders.contains(name) {
                holders.push(name.clone());
            }
        }
        done += 1;
    }

    let mut code = String::from("match name {\n");
    for (name, _) in messages.iter().filter(|(name, _)| !holders.contains(name)) {
        let name = name.trim_start_matches('.');
        let path = name.replace('.', "::");
        code += &format!("    {name:?} => Some(Codec::of::<crate::generated::{path}>()),\n");
    }
    code + "    _ => None,\n}\n"
}
