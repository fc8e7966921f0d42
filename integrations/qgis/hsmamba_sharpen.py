"""A processing script of QGIS: `hsmamba fuse`, a coarse image sharpened with a sharp one of the same ground."""

import os
import sys

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hsmamba_command as hsmamba


class HsmambaSharpen(QgsProcessingAlgorithm):
    """Sharpen an image with another one."""

    def createInstance(self):
        return HsmambaSharpen()

    def name(self):
        return "hsmamba_sharpen"

    def displayName(self):
        return "Sharpen an image"

    def group(self):
        return "hsmamba"

    def groupId(self):
        return "hsmamba"

    def shortHelpString(self):
        return (
            "Brings a coarse image (multispectral, hyperspectral) onto the grid of a sharp one (panchromatic, colour) "
            "of the same ground, in its own units, by the command line of hsmamba. The method is a classical one (EXP, "
            "Brovey, GSA, MTF-GLP-HPM, MTF-GLP-FS, MTF-GLP-HPM-R), which takes any bands, or a weight of the zoo for "
            "images of its sensor; a network may be tuned on the images first."
        )

    def initAlgorithm(self, config=None):
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Coarse image"))
        self.addParameter(QgsProcessingParameterRasterLayer("GUIDE", "Sharp image"))
        self.addParameter(
            QgsProcessingParameterString(
                "MODEL", "Method: a classical one, a weight, or a model folder", "MTF-GLP-HPM-R"
            )
        )
        self.addParameter(
            QgsProcessingParameterNumber(
                "ADAPT",
                "Seconds to tune a network on the images (0: as it is)",
                QgsProcessingParameterNumber.Double,
                0,
                minValue=0,
            )
        )
        self.addParameter(
            QgsProcessingParameterString("MAXIMUM", "What is 1 to a network: 2047, or 10000,255", optional=True)
        )
        self.addParameter(QgsProcessingParameterBoolean("MASK", "Leave out pixels without data", defaultValue=True))
        program = QgsProcessingParameterString("PROGRAM", "The program hsmamba, or its path", hsmamba.PROGRAM)
        program.setFlags(program.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(program)
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Sharpened image"))

    def processAlgorithm(self, parameters, context, feedback):
        out = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        try:
            command = hsmamba.sharpen_command(
                self.parameterAsRasterLayer(parameters, "INPUT", context).source(),
                self.parameterAsRasterLayer(parameters, "GUIDE", context).source(),
                self.parameterAsString(parameters, "MODEL", context),
                out,
                adapt=self.parameterAsDouble(parameters, "ADAPT", context),
                maximum=self.parameterAsString(parameters, "MAXIMUM", context),
                mask=self.parameterAsBool(parameters, "MASK", context),
                program=self.parameterAsString(parameters, "PROGRAM", context),
            )
            hsmamba.run(command, feedback.pushConsoleInfo, feedback.isCanceled)
        except hsmamba.CommandError as error:
            raise QgsProcessingException(str(error)) from error
        return {"OUTPUT": out}
