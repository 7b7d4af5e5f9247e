//! Content: streamed where nobody before may change it, held where somebody may.
