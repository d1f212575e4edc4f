// dist/index.min.js of the package is not the library; build/niivue/index.js is what "import" names.
export { DRAG_MODE, Niivue, NVImage, SLICE_TYPE } from "@niivue/niivue";
