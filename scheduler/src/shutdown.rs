//! How the daemon is told to stop, and how its parts learn of it.

use tokio::sync::watch;

/// Tells every part to stop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Shutdown {
    /// Stop. Repeated calls do nothing.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Whether stopping has begun.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until stopping begins.
    pub async fn wait(&self) {
        let mut receiver = self.0.subscribe();
        // Fails only when every sender is gone, and `self` is one.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}
