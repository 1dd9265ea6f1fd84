//! Prints the reference of the configuration: the contents of `docs/config.md`.

fn main() {
    print!("{}", sortie_config::reference_markdown());
}
