//! Randomness of cryptographic quality.

pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[cfg(target_arch = "wasm32")]
    {
        // One call gives at most 65536 bytes.
        for chunk in out.chunks_mut(65536) {
            let got = crate::base::bindings::witlet::base::random::bytes(chunk.len() as u32);
            chunk.copy_from_slice(&got);
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        use std::io::Read;
        if let Err(error) = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut out)) {
            panic!("/dev/urandom: {error}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::bytes::<32>(), super::bytes::<32>());
    }
}
