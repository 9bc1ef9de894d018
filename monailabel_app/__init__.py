"""DiNO-Diffusion as a MONAI Label app (`main`, `lib`) and the server around it (`server`)."""
