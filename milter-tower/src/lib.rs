//! milter-tower
