"""Where the denoiser runs: in torch, on int8 weights, in ONNX Runtime, in OpenVINO."""
