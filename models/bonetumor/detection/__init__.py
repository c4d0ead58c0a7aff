"""Finding tumours on radiographs: YOLOv5 through ultralytics, behind the Detector port."""
