//! What a Rust program is told of its machine, dynamic or static.

fn main() -> std::io::Result<()> {
    println!(
        "rounded.available_parallelism {}",
        std::thread::available_parallelism()?
    );
    Ok(())
}
