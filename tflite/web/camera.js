/** The camera: started and stopped by the visitor, and off as long as nobody asks for it. */

import { element, pictureProblem, say } from "./view.js";

const REASONS = {
  NotAllowedError: "the camera was not allowed; the browser's settings of this page say why",
  NotFoundError: "no camera was found",
  NotReadableError: "the camera is in use by another program",
};

/** Connect the buttons; `take` is called with the video whose picture is wanted. */
export function setUpCamera(take) {
  const video = element("camera");
  element("start-camera").addEventListener("click", () => start(video));
  element("stop-camera").addEventListener("click", () => stop(video));
  element("take").addEventListener("click", () => {
    take(video);
    stop(video);
  });
}

async function start(video) {
  try {
    const wanted = { video: { facingMode: "environment" }, audio: false };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
    await video.play();
  } catch (error) {
    stop(video);
    pictureProblem(`${REASONS[error.name] ?? error.message}.`);
    return;
  }
  pictureProblem("");
  show(true);
  element("take").focus();
  say("The camera is on.");
}

function stop(video) {
  for (const track of video.srcObject?.getTracks() ?? []) {
    track.stop();
  }
  video.srcObject = null;
  if (!video.hidden) {
    show(false);
    element("start-camera").focus();
    say("The camera is off.");
  }
}

function show(on) {
  element("stage").classList.toggle("camera", on);
  for (const id of ["camera", "take", "stop-camera"]) {
    element(id).hidden = !on;
  }
  for (const id of ["choose", "start-camera"]) {
    element(id).hidden = on;
  }
}
