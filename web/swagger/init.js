// Starts Swagger UI with what the page says. Nothing is kept in the browser, and no other host is asked.
const page = document.getElementById('swagger-ui');

globalThis.SwaggerUIBundle({
  domNode: page,
  url: page.dataset.document,
  presets: [globalThis.SwaggerUIBundle.presets.apis],
  // Without methods to submit, the page is for reading.
  ...(page.dataset.try === 'true' ? {} : { supportedSubmitMethods: [] }),
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
