use milter_tower::BoxError;

use super::service::After;
use crate::asked::response_future;

response_future! {
    /// The future of [`DryRun`](super::DryRun).
    After, Into<BoxError>
}
