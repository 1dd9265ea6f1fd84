// In a file of its own, because the page's policy allows no script within it.
window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    // Keys are forgotten with the page, and nobody else is asked whether the description is valid.
    persistAuthorization: false,
    validatorUrl: null,
  });
});
