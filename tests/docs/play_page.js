// Turns the controls of the page "Try it", and reports what it shows: for tests/docs/test_play.py, in a browser.
"use strict";

(async () => {
  const get = (id) => document.getElementById(`play-${id}`);
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const settled = async () => {
    await wait(300);
    while (get("table").hasAttribute("aria-busy")) await wait(50);
  };
  const set = (id, value) => {
    const control = get(id);
    if (typeof value === "boolean") control.checked = value;
    else control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const shown = () => ({
    code: get("code").textContent,
    rows: ["a", "b", "c"].map((slot) => [...get(`row-${slot}`).cells].map((cell) => cell.textContent)),
    times: ["a", "b", "c"].map((slot) => get(`time-${slot}`).textContent),
    ways: ["a", "b", "c"].map((slot) => get(`way-${slot}`).textContent),
    images: ["image", "canvas-a"].map((id) => get(id).getContext("2d").getImageData(0, 0, get(id).width, get(id).height).data.join()),
    labels: [...document.querySelectorAll(".play canvas, .play svg")].map((each) => each.getAttribute("aria-label")),
  });
  const report = { errors: [] };
  addEventListener("error", (event) => report.errors.push(event.message));
  addEventListener("unhandledrejection", (event) => report.errors.push(String(event.reason)));
  try {
    const n = Number(get("image").dataset.size);
    report.numbers = globalThis.playNumbers(n);
    await settled();
    report.given = shown();
    set("progress", 0);
    await settled();
    report.start = shown();

    // One's own image: that of the canvas, as a file
    set("source", "1");
    await settled();
    const blob = await new Promise((resolve) => get("image").toBlob(resolve));
    const files = new DataTransfer();
    files.items.add(new File([blob], "own.png", { type: "image/png" }));
    set("source", "0");
    await settled();
    get("file").files = files.files;
    get("file").dispatchEvent(new Event("change"));
    for (const [id, value] of [
      ["law", true], ["exponent", "1.3"], ["rotation", "40"], ["gamma", "0.3"], ["steps", "10"], ["progress", "35"],
      ["kind-a", "blur"], ["kind-b", "tint"], ["kind-c", "path"], ["same-length", true],
    ]) set(id, value);
    await settled();
    report.own = shown();
    for (const [id, value] of [["law", false], ["rotation", "100"], ["gamma", "1"]]) set(id, value);
    await settled();
    report.equal = shown();

    report.samples = get("samples-code").textContent;

    // A file that is decoded while another image is chosen, one that cannot be read, and one of one colour
    const choose = (name, parts) => {
      const chosen = new DataTransfer();
      chosen.items.add(new File(parts, name));
      get("file").files = chosen.files;
      get("file").dispatchEvent(new Event("change"));
    };
    // The browser's time is virtual: only tasks that are ready let it wait for a decoder, which takes real time.
    const turn = () =>
      new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = resolve;
        port2.postMessage(0);
      });
    const until = async (done) => {
      for (let i = 0; i < 200000 && !done(); i++) await turn();
      await settled();
    };
    const decode = Image.prototype.decode;
    let decoded = false;
    Image.prototype.decode = async function () {
      await decode.call(this);
      decoded = true;
    };
    choose("own.png", [blob]);
    set("source", "2"); // before any decoder can be done
    await until(() => decoded);
    Image.prototype.decode = decode;
    report.raced = { ...shown(), source: get("source").value };
    choose("junk.png", ["no image"]);
    await until(() => get("message").textContent.includes("junk.png"));
    report.unread = { ...shown(), source: get("source").value, message: get("message").textContent };
    const plain = document.createElement("canvas");
    plain.getContext("2d").fillStyle = "#777";
    plain.getContext("2d").fillRect(0, 0, plain.width, plain.height);
    choose("plain.png", [await new Promise((resolve) => plain.toBlob(resolve))]);
    await until(() => get("message").textContent.includes("colour"));
    report.plain = { ...shown(), source: get("source").value, message: get("message").textContent };
    report.unnamed = [...document.querySelectorAll(".play :is(input, select, button)")]
      .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()))
      .map((each) => each.id);
  } catch (error) {
    report.errors.push(String(error.stack));
  }
  const place = document.createElement("script");
  place.type = "application/json";
  place.id = "report";
  place.textContent = JSON.stringify(report).replaceAll("<", "\\u003c");
  document.body.append(place);
})();
